//! Aliases of a far provider: the envelope sender stays our user's, so bounces come from third parties.

use anyhow::Result;
use lab::mta::{Far, Forwarder, Software};

use super::{PATIENCE, World, all_are};

#[test]
fn bounces_of_mail_that_an_alias_passed_on_come_back_from_third_parties() -> Result<()> {
    let aliases = [
        // The next server takes it and bounces it; the next server refuses it, and the forwarder bounces it.
        "accepted: gone@postfix.example",
        "refused: gone@refusing.example",
        "team: ann@postfix.example, bob@exim.example, eve@opensmtpd.example",
    ];
    let world =
        World::up("alias", &Forwarder { aliases: aliases.map(Into::into).to_vec(), ..Default::default() })?;
    let others = [Software::Exim, Software::OpenSmtpd].map(|software| Far { software });
    let _servers =
        others.map(|far| world.lab.far(far, lab::EDGE.into())).into_iter().collect::<Result<Vec<_>>>()?;

    world.alice_writes_to("accepted@forward.example", "accepted")?;
    world.alice_writes_to("refused@forward.example", "refused")?;
    // One recipient, three bounces: within what a token of one recipient proves.
    world.alice_writes_to("team@forward.example", "team")?;

    all_are(&world.wait_for_bounces(5)?, "token", "alice@example.jp");
    let mailbox = world.operator.mailbox("alice@example.jp");
    for subject in ["accepted", "refused"] {
        mailbox.wait_for_one(&format!("X-Returned: {subject}\n"), PATIENCE)?;
    }
    // The edge has judged them: Postfix delivers them a moment later.
    world.wait_until_idle()?;
    let team = mailbox.messages()?.iter().filter(|text| text.contains("X-Returned: team\n")).count();
    assert_eq!(team, 3, "{}", world.said());
    world.close(5, &[("alice@example.jp", 5)])
}
