//! What watching found, for eyes: in `status`, and where a change to enforcing is refused or warned of. It comes from the
//! running edge, or from the state directory while none runs.

use std::fmt::Write as _;

use anyhow::Context as _;
use edge_core::policy::Action;
use edge_core::time::UnixMillis;
use edge_core::watch::{CLEAN_DAYS, Day, Evidence, Finding, Summary, Verified};

use super::{Answer, print, print_json, words};
use crate::config::Config;
use crate::control::{Client, ClientError, Reply, Request};
use crate::engine::{clock, watch};

/// Findings that `status` shows; `status --watch` shows all.
const FINDINGS_SHOWN: usize = 10;

/// Days that do not count, which are named.
const DAYS_SHOWN: usize = 3;

/// What the running edge knows, or what the last one wrote. `None`: there is nothing yet.
///
/// # Errors
/// The edge does not answer as it should, or the file cannot be read.
pub(super) fn summary(config: &Config) -> anyhow::Result<Option<Summary>> {
    match Client::connect(&config.control.socket) {
        Ok(mut edge) => {
            let Reply::Watched(summary) = edge.ask(&Request::Watched)? else {
                return Err(edge.unexpected().into());
            };
            Ok(Some(*summary))
        }
        Err(ClientError::NotRunning(_)) => on_disk(config, usize::MAX),
        Err(error) => Err(error.into()),
    }
}

/// What the last edge wrote into the state directory.
pub(super) fn on_disk(config: &Config, sources_max: usize) -> anyhow::Result<Option<Summary>> {
    let ledger = watch::book::read(&config.state.dir).context("cannot tell what watching found")?;
    let now = clock::system_now();
    Ok(ledger.map(|ledger| ledger.summary(now, config.policy().grace, false, sources_max)))
}

/// `backstop status --watch`. Exit code 1: there is nothing yet.
pub(super) fn show(config: &Config, json: bool) -> anyhow::Result<Answer> {
    let summary = summary(config)?;
    if json {
        print_json(&summary)?;
    } else {
        print(&summary.as_ref().map_or_else(nothing, long))?;
    }
    Ok(if summary.is_some() { Answer::Yes } else { Answer::No })
}

fn nothing() -> String {
    "no edge has watched here yet (no file watch.json in the directory of [state])\n".to_owned()
}

/// The section of `status`.
pub(super) fn section(summary: &Summary) -> String {
    let mut text = head(summary);
    counts(&mut text, summary);
    findings(&mut text, summary, FINDINGS_SHOWN);
    text
}

/// All of it.
fn long(summary: &Summary) -> String {
    let mut text = head(summary);
    counts(&mut text, summary);
    findings(&mut text, summary, usize::MAX);
    text += "\nDays (UTC)        watched  let through  looked at  like ours  unclear  not looked at\n";
    for day in &summary.days {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  {}    {:>7}  {:>11}  {:>9}  {:>9}  {:>7}  {:>13}{}",
            date(UnixMillis::from_secs(day.day * 86_400)),
            format!("{} h", day.watched_ms / 3_600_000),
            words::number(day.let_through),
            words::number(day.looked_at),
            words::number(day.ours),
            words::number(day.unclear),
            words::number(day.missed),
            if day.is_seen() { "" } else { "  too much" },
        );
    }
    text
}

/// How much of what came was not looked at, and which days do not count for it; nothing where all was.
fn not_seen(summary: &Summary) -> String {
    let (missed, came) = summary.missed();
    let mut text = match missed {
        0 => String::new(),
        _ => format!(
            "  {} of {} unproven messages were not looked at: too many came at once\n",
            words::number(missed),
            words::number(came)
        ),
    };
    let day = |day: &Day| {
        let unclear = match day.unclear {
            0 => String::new(),
            unclear => format!(", {} not told by the DNS", words::number(unclear)),
        };
        let (date, missed) = (date(UnixMillis::from_secs(day.day * 86_400)), words::number(day.missed));
        format!("{date}: {missed} not looked at{unclear}, of {}", words::number(day.came()))
    };
    let days: Vec<String> = summary.not_seen().map(day).collect();
    if !days.is_empty() {
        text += "  days that do not count, because more than 1 % of what came was not seen:\n";
        let shown = days.iter().take(DAYS_SHOWN).map(|day| format!("    {day}\n"));
        text.extend(shown);
    }
    if days.len() > DAYS_SHOWN {
        text += &format!("    and {} more: backstop status --watch\n", days.len() - DAYS_SHOWN);
    }
    text
}

fn head(summary: &Summary) -> String {
    let mut text = format!(
        "\nWatching since {}: {} clean days of {}{}\n",
        moment(summary.since),
        summary.clean_days,
        summary.clean_days_wanted,
        if summary.is_ready() { ", ready to enforce" } else { "" }
    );
    let _ = match (summary.first_signature, summary.grace_until) {
        (None, _) => writeln!(
            text,
            "  NOTHING WAS SIGNED YET: no bounce can be proven; send outgoing mail through [outbound]"
        ),
        (Some(first), until) => {
            let guess =
                if first.by_oldest_key { " (by the oldest key: the state was lost or new)" } else { "" };
            let grace = match until {
                Some(until) if summary.grace => format!("; grace until {}", moment(until)),
                Some(until) => format!("; grace was over at {}", moment(until)),
                None => String::new(),
            };
            writeln!(text, "  first signature {}{guess}{grace}", moment(first.at))
        }
    };
    text + &not_seen(summary)
}

fn counts(text: &mut String, summary: &Summary) {
    let mut row = |name: &str, count: u64| {
        let _ = writeln!(text, "  {name:60}{:>12}", words::number(count));
    };
    row("unproven bounces delivered that enforcing would have stopped", summary.would_be_stopped);
    for filter in &summary.filters {
        let by = match filter.what.filter {
            Some(place) => format!("filter {place}"),
            None => "no filter".to_owned(),
        };
        let memo =
            if filter.what.memo.is_empty() { String::new() } else { format!(", {}", filter.what.memo) };
        let would = match filter.what.would {
            Some(Action::Reject) => " (grace; would be rejected)",
            Some(Action::Quarantine) => " (grace; would be quarantined)",
            Some(Action::Discard) => " (grace; would be discarded)",
            Some(Action::Monitor | Action::Deliver | Action::Mark) | None => "",
        };
        row(&format!("  {by}{memo}{would}"), filter.tally.count);
    }
    for kind in &summary.kinds {
        row(&format!("  kind {}", kind_word(kind)), kind.tally.count);
    }
    for source in &summary.sources {
        row(&format!("  from {}, last {}", source.what, moment(source.tally.last)), source.tally.count);
    }
    if summary.other_sources > 0 {
        row("  from other sources", summary.other_sources);
    }
}

/// A kind by the word that it has in the log.
fn kind_word(row: &edge_core::watch::Row<edge_core::bounce::Kind>) -> String {
    row.what.name().replace('_', " ")
}

fn findings(text: &mut String, summary: &Summary, most: usize) {
    if summary.ours.is_empty() {
        text.push_str("  nothing among the unproven looks like ours\n");
        return;
    }
    text.push_str("\nLOOKS LIKE OURS, and could not be proven\n");
    text.push_str(&list(&summary.ours, most));
}

/// Why it is too early to stop unproven bounces, with all that looks like ours. `None`: no edge has watched yet.
pub(super) fn why_early(summary: Option<&Summary>) -> String {
    let Some(summary) = summary else {
        return format!("no edge has watched here yet: {CLEAN_DAYS} clean days are still to come");
    };
    let mut text = match summary.first_signature {
        None => "nothing was signed yet: no bounce could be proven; ".to_owned(),
        Some(_) => String::new(),
    };
    text += &format!(
        "{} of {} clean days have passed, {} to go (a day after that of the first signature is clean when the edge \
         ran all of it, looked at all but 1 % of what was unproven, and nothing of it looked like ours)",
        summary.clean_days,
        summary.clean_days_wanted,
        summary.days_left(),
    );
    let not_seen = not_seen(summary);
    if !not_seen.is_empty() {
        text += &format!("\n{}", not_seen.trim_end());
    }
    if !summary.ours.is_empty() {
        text += "\n\nLOOKS LIKE OURS, and could not be proven\n";
        text += list(&summary.ours, usize::MAX).trim_end();
        text.push('\n');
    }
    text
}

/// What looks like ours, each on a line: for the log.
pub(super) fn lines(findings: &[Finding]) -> Vec<String> {
    let line = |finding: &Finding| {
        let (what, _) = words_of(&finding.evidence);
        format!("{what} ({} times, last {})", words::number(finding.tally.count), moment(finding.tally.last))
    };
    findings.iter().take(FINDINGS_SHOWN).map(line).collect()
}

/// What looks like ours, each with what to do.
fn list(findings: &[Finding], most: usize) -> String {
    let mut text = String::new();
    for finding in findings.iter().take(most) {
        let (what, advice) = words_of(&finding.evidence);
        let tally = &finding.tally;
        let _ = writeln!(
            text,
            "  {} time{}, {} to {}: {what}\n    {advice}",
            words::number(tally.count),
            if tally.count == 1 { "" } else { "s" },
            moment(tally.first),
            moment(tally.last),
        );
        let example = &finding.example;
        let _ = write!(text, "    latest: from {} to {}", example.source, example.recipient);
        if let Some(id) = &example.message_id {
            let _ = write!(text, ", Message-ID {id}");
        }
        if let Some(subject) = &example.subject {
            let _ = write!(text, ", \"{subject}\"");
        }
        text.push('\n');
    }
    if findings.len() > most {
        let _ = writeln!(text, "  and {} more: backstop status --watch", findings.len() - most);
    }
    text
}

/// What was found, and what to do about it.
fn words_of(evidence: &Evidence) -> (String, String) {
    match evidence {
        Evidence::Dkim { domain, selector, verified } => {
            let over = match verified {
                Verified::Message => "verifies over the whole message",
                Verified::Header => "verifies over the header; the body did not come back whole",
            };
            (
                format!("the original has a DKIM signature of {domain}, selector {selector}, that {over}"),
                format!(
                    "let whoever signs with selector {selector} send through the edge, or from a domain of its own"
                ),
            )
        }
        Evidence::Forwarder { source, mailbox_domain } => (
            format!("{source} passes on null-sender mail that first came to a mailbox at {mailbox_domain}"),
            "weak: a forger can write this. If it is a forwarder of yours, name it in a [[trusted_forwarder]]"
                .to_owned(),
        ),
        Evidence::Received { host, domain } => (
            format!("the original's oldest Received field names {host} (mail of {domain})"),
            format!(
                "weak: a forger can write this. If {host} sends mail of yours, let it send through the edge"
            ),
        ),
    }
}

/// A time to the minute, UTC.
fn moment(at: UnixMillis) -> String {
    timestamp(at).strftime("%Y-%m-%d %H:%M UTC").to_string()
}

fn date(at: UnixMillis) -> String {
    timestamp(at).strftime("%Y-%m-%d").to_string()
}

fn timestamp(at: UnixMillis) -> jiff::Timestamp {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX)
}
