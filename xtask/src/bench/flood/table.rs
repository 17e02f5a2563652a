//! The figures for eyes.

use std::fmt::Write as _;

use super::Object;
use super::figures::{Figures, Phases};

/// The table, and below it what it does not show.
pub(super) fn render(object: &Object) -> String {
    let mut text = String::new();
    let schedule = &object.schedule;
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "Honest mail, {} a second: {} s of calm, then {} waves of {} s with {} forged bounces a second from {} servers,\n\
         besides {} bots that knock with {} SYNs a second and more. The load has a core of its own.\n",
        schedule.honest_per_sec,
        schedule.calm_secs,
        schedule.waves,
        schedule.wave_secs,
        schedule.forged_per_sec,
        schedule.reflectors,
        schedule.bots,
        schedule.knocks_per_sec,
    );
    let _ = writeln!(
        text,
        "{:<16} {:>12} {:>6} {:>19} {:>19} {:>8} {:>19}  goal met",
        "", "arrived once", "lost", "to 250: calm, ms", "in the waves, ms", "p99", "to the mailbox, p99"
    );
    let _ = writeln!(
        text,
        "{:<16} {:>12} {:>6} {:>9} {:>9} {:>9} {:>9} {:>8} {:>9} {:>9}",
        "", "", "", "p50", "p99", "p50", "p99", "", "calm", "waves"
    );
    for row in &object.rows {
        line(&mut text, row);
    }
    text.push('\n');
    for row in &object.rows {
        beside(&mut text, row);
    }
    text
}

fn line(text: &mut String, row: &Figures) {
    let (honest, real) = (row.honest, row.real_bounces);
    let once = format!("{}/{}", honest.once + real.once, honest.sent + real.sent);
    let Phases { calm, waves } = row.latency_ms;
    let met = match row.met {
        Some(true) => "yes",
        Some(false) => "no",
        None => "",
    };
    let _ = write!(
        text,
        "{:<16} {once:>12} {:>6} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>8} {:>9.1} {:>9.1}  {met}",
        row.subject,
        honest.missing + real.missing,
        calm.p50,
        calm.p99,
        waves.p50,
        waves.p99,
        format!("x {:.2}", row.value),
        row.mailbox_ms.calm.p99,
        row.mailbox_ms.waves.p99,
    );
    text.truncate(text.trim_end().len());
    text.push('\n');
}

fn beside(text: &mut String, row: &Figures) {
    let forged = row.forged;
    let _ = write!(
        text,
        "{}: {} forged bounces, {:.0} a second begun in the waves; {} refused, {} taken, {} left in queues, {} in \
         mailboxes. Bots: {} connections, {} of them unanswered.",
        row.subject,
        forged.planned,
        forged.tried_per_sec,
        forged.stopped_smtp,
        forged.taken,
        forged.left,
        forged.in_mailboxes,
        row.bots.connections,
        row.bots.unanswered,
    );
    if let Some(dropped) = row.xdp_dropped {
        let _ = write!(text, " XDP dropped {dropped} packets.");
    }
    if row.banned > 0 {
        let _ = write!(text, " {} sources banned.", row.banned);
    }
    let (calm, waves) = (row.cpu_cores.calm, row.cpu_cores.waves);
    let _ = writeln!(
        text,
        " Cores used, calm and in the waves: servers {:.2} and {:.2}, load {:.2} and {:.2}. Sent again: {}.",
        calm.servers, waves.servers, calm.load, waves.load, row.honest.retried
    );
}
