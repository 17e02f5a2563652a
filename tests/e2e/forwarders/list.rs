//! Mailing lists: bounces of members go to the list, and what is for our users must not be lost.

use anyhow::{Context as _, Result};
use lab::client::submit;
use lab::mta::{Forwarder, LIST, SUBMISSION};
use lab::{Host, edge::Settings};

use super::{PATIENCE, World};
use crate::message;

/// `mlmmj`.
#[test]
fn a_list_gets_its_members_bounces_and_our_users_what_is_for_them() -> Result<()> {
    let list = Some(["alice@example.jp", "gone@postfix.example"].map(Into::into).to_vec());
    let world = World::up("list", &Forwarder { list, ..Default::default() })?;

    // She is a member: her post comes back to her as the list's mail, and the other member's bounce goes to the list.
    world.alice_writes_to(LIST, "posted")?;
    let posted = world.operator.mailbox("alice@example.jp").wait_for_one("X-Returned: posted\n", PATIENCE)?;
    assert!(posted.starts_with("Return-Path: <list+bounces-"), "{posted}");
    let bounced = "to=<list+bounces-";
    world.forwarder.process().wait_for_line(bounced, PATIENCE)?;

    // He is none: the list tells him that his was not taken.
    let to_list = message("not-taken")
        .replace("somebody@elsewhere.example", LIST)
        .replace("alice@example.jp", "bob@example.jp");
    submit(&world.lab, Host::Mta, SUBMISSION, "bob@example.jp", LIST, &to_list)?;
    let notice = world
        .operator
        .mailbox("bob@example.jp")
        .wait_for_one("not-taken", PATIENCE)
        .with_context(|| world.said())?;
    assert!(notice.contains("(The denied message is below.)"), "{notice}");

    world.close(0, &[("alice@example.jp", 1), ("bob@example.jp", 1)])
}

/// Postfix's own lists, `:include:` with an `owner-` alias, and one without: there the bounces come to the author.
#[test]
fn a_list_without_an_owner_sends_its_members_bounces_to_the_author_who_gets_them() -> Result<()> {
    let aliases = ["owned: :include:/etc/members", "owner-owned: mark", "unowned: :include:/etc/members"];
    let members = Some("gone@postfix.example, lost@postfix.example".to_owned());
    let world = World::with(
        "list-include",
        &Forwarder { aliases: aliases.map(Into::into).to_vec(), members, ..Default::default() },
        Default::default(),
        &Settings::default().set("domain.0.tag", true).set("domain.0.require_tag", "always"),
    )?;
    world.alice_writes_to("owned@forward.example", "owned")?;
    world.alice_writes_to("unowned@forward.example", "unowned")?;
    for bounce in world.wait_for_bounces(1)? {
        assert_eq!((&bounce["proof"], &bounce["recipient"]), (&"tag".into(), &"alice@example.jp".into()));
    }
    let owned = world.forwarder.process().wait_for_line("orig_to=<owner-owned", PATIENCE);
    owned.with_context(|| world.said())?;
    for message in world.operator.mailbox("alice@example.jp").messages()? {
        assert!(message.contains("X-Returned: unowned\n"), "{message}");
    }
    world.close(1, &[("alice@example.jp", 1)])
}
