//! Adding, changing and removing filters.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::json;
use toml_edit::{Array, ArrayOfTables, Table, value};

use super::early::{Early, Force};
use super::{Fields, line, other_file, word};
use crate::cli::{Answer, print, print_json};
use crate::config::{self, Loaded};
use crate::control::{Client, ClientError, Reply, Request};

#[derive(clap::Args, Debug)]
pub(super) struct Add {
    #[command(flatten)]
    fields: Fields,
    /// Put it before this one, as `filter list` counts; without, it comes last.
    #[arg(long, value_name = "PLACE")]
    before: Option<usize>,
    #[command(flatten)]
    force: Force,
}

#[derive(clap::Args, Debug)]
pub(super) struct Edit {
    /// Its place, as `filter list` shows it.
    place: usize,
    #[command(flatten)]
    fields: Fields,
    #[command(flatten)]
    force: Force,
}

#[derive(clap::Args, Debug)]
pub(super) struct Remove {
    /// Its place, as `filter list` shows it.
    place: usize,
    #[command(flatten)]
    force: Force,
}

pub(super) fn add(add: Add, file: &Path, json: bool) -> anyhow::Result<Answer> {
    if add.fields.covers.is_empty() {
        bail!("name whom it covers: --covers example.com, --covers ann@example.com or --covers '*'");
    }
    if add.fields.action.is_none() {
        bail!("name what it does: --action monitor, deliver, mark, reject, quarantine or discard");
    }
    let mut edit = config::Edit::open(file)?;
    let filters = edit.filters()?;
    let mut table = Table::new();
    table.decor_mut().set_prefix("\n");
    set(&mut table, &add.fields);
    let place = add.before.unwrap_or(filters.len());
    if place > filters.len() {
        bail!(no_such(place, filters.len()));
    }
    // Each table keeps its place in the file; the new one takes that of the one before it.
    let mut tables: Vec<Table> = std::mem::take(filters).into_iter().collect();
    tables.insert(place, table);
    filters.extend(tables);
    finish(edit, &Change { done: "added", place, force: add.force.force, json }, file)
}

pub(super) fn edit(change: Edit, file: &Path, json: bool) -> anyhow::Result<Answer> {
    let mut edit = config::Edit::open(file)?;
    let filters = edit.filters()?;
    let count = filters.len();
    let table = filters.get_mut(change.place).with_context(|| no_such(change.place, count))?;
    if !set(table, &change.fields) {
        bail!("name what to change: --memo, --covers, --action, --record, --on or --off");
    }
    finish(edit, &Change { done: "changed", place: change.place, force: change.force.force, json }, file)
}

pub(super) fn remove(remove: Remove, file: &Path, json: bool) -> anyhow::Result<Answer> {
    let mut edit = config::Edit::open(file)?;
    let filters: &mut ArrayOfTables = edit.filters()?;
    if remove.place >= filters.len() {
        bail!(no_such(remove.place, filters.len()));
    }
    filters.remove(remove.place);
    finish(edit, &Change { done: "removed", place: remove.place, force: remove.force.force, json }, file)
}

fn no_such(place: usize, count: usize) -> String {
    match count {
        0 => "there are no filters".to_owned(),
        _ => format!("there is no filter {place}: they have the places 0 to {}", count - 1),
    }
}

/// Sets what is given; `false`: nothing is.
fn set(table: &mut Table, fields: &Fields) -> bool {
    let mut any = false;
    let mut put = |key: &str, item| {
        // The value's own comment stays.
        match table.get_mut(key).and_then(toml_edit::Item::as_value_mut) {
            Some(old) => {
                let decor = old.decor().clone();
                *old = item;
                *old.decor_mut() = decor;
            }
            None => drop(table.insert(key, value(item))),
        }
        any = true;
    };
    if let Some(memo) = &fields.memo {
        put("memo", memo.into());
    }
    if !fields.covers.is_empty() {
        put("covers", fields.covers.iter().collect::<Array>().into());
    }
    if let Some(action) = fields.action {
        put("action", word(action).into());
    }
    if let Some(record) = fields.record {
        put("record", record.into());
    }
    if fields.on || fields.off {
        put("on", fields.on.into());
    }
    any
}

/// One change.
struct Change {
    /// `added`, `changed` or `removed`.
    done: &'static str,
    place: usize,
    force: bool,
    json: bool,
}

/// Writes the file, tells a running edge, and says what was done.
fn finish(edit: config::Edit, change: &Change, file: &Path) -> anyhow::Result<Answer> {
    let early = Early::of(&config::load(file)?, &edit.check()?.config, file);
    if let (Some(early), false) = (&early, change.force) {
        return early.refuse(change.json);
    }
    let Loaded { config, warnings, .. } = edit.save()?;
    let taken_over = reload(&config, file)?;
    let in_force = taken_over == TakenOver::Yes;
    let Change { done, place, .. } = *change;
    let filter = config.filters.get(place).filter(|_| done != "removed");
    if change.json {
        print_json(&json!({
            "done": done, "place": place, "filter": filter, "warnings": warnings, "in_force": in_force,
            "forced": early.as_ref().map(Early::json),
        }))?;
        return Ok(Answer::Yes);
    }
    let mut told: String = warnings.iter().map(|warning| format!("{}\n", warning.in_file(file))).collect();
    told += &early.map_or(String::new(), |early| format!("{}\n", early.text()));
    told += &format!(
        "{done} filter {place}{}\n",
        filter.map_or(String::new(), |filter| format!(": {}", line(filter)))
    );
    told += &match taken_over {
        TakenOver::Yes => "the edge has taken it over".to_owned(),
        TakenOver::NoEdge => "no edge is running; it holds from the next start".to_owned(),
        TakenOver::Another(other) => {
            format!("the running edge reads another file, {}: nothing has changed there", other.display())
        }
    };
    print(&told)?;
    Ok(Answer::Yes)
}

/// What became of a change in a running edge.
#[derive(PartialEq, Eq, Debug)]
enum TakenOver {
    /// It is in force.
    Yes,
    /// None is running.
    NoEdge,
    /// The one that runs reads this file.
    Another(PathBuf),
}

/// Lets a running edge read its filters anew, if it reads this file.
fn reload(config: &config::Config, file: &Path) -> anyhow::Result<TakenOver> {
    let refused = "the file is written, but the running edge has not taken it over";
    let mut client = match Client::connect(&config.control.socket) {
        Ok(client) => client,
        Err(ClientError::NotRunning(_)) => return Ok(TakenOver::NoEdge),
        Err(
            error @ (ClientError::Forbidden(_)
            | ClientError::Broken { .. }
            | ClientError::Refused(_)
            | ClientError::Unexpected(_)),
        ) => return Err(error).context(refused),
    };
    if let Some(other) = other_file(&mut client, file).context(refused)? {
        return Ok(TakenOver::Another(other));
    }
    let Reply::Reloaded { .. } = client.ask(&Request::Reload).context(refused)? else {
        return Err(client.unexpected()).context(refused);
    };
    Ok(TakenOver::Yes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::config::load;
    use crate::control::{Daemon, Listener};
    use edge_core::policy::Action;

    const FORCE: Force = Force { force: true };

    const FILE: &str = r#"# The edge of example.jp.
hostname = "mx.example.jp"
control.socket = "/nonexistent/control.sock"   # nobody is there
state.dir = "/nonexistent/state"

[inbound]
listen = ["192.0.2.1:25"]

[[domain]]
name = "example.jp"
upstream = "127.0.0.1:10025"

# The board's own rule.
[[filter]]
covers = ["ann@example.jp"]  # the chair
action = "deliver"

# Keys follow.
[signature]
keys = "/etc/backstop/keys" # 0700
"#;

    fn written() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("backstop.toml");
        std::fs::write(&file, FILE).unwrap();
        (dir, file)
    }

    /// A running edge that reads a file, and has watched nothing.
    struct Reading {
        file: PathBuf,
        reloads: AtomicU32,
    }

    impl Daemon for Reading {
        fn answer(&self, request: &Request) -> Reply {
            match request {
                Request::Version => Reply::Version { version: "0".into(), file: self.file.clone() },
                Request::Reload => {
                    self.reloads.fetch_add(1, Ordering::Relaxed);
                    Reply::Reloaded { filters: 1, keys: 1, file: self.file.clone() }
                }
                other => panic!("{other:?} was not to be asked"),
            }
        }

        fn log(&self, _: u32, _: String, _: String) {}
    }

    #[test]
    fn what_the_running_edge_does_not_read_is_not_taken_over() {
        let (dir, file) = written();
        let link = dir.path().join("link.toml");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let real = file.canonicalize().unwrap();
        let other = PathBuf::from("/etc/backstop/backstop.toml");
        for (number, (theirs, said)) in [
            (real, TakenOver::Yes),
            (PathBuf::new(), TakenOver::Yes), // An older edge.
            (other.clone(), TakenOver::Another(other)),
        ]
        .into_iter()
        .enumerate()
        {
            let mut config = load(&file).unwrap();
            config.control.socket = dir.path().join(format!("{number}.sock"));
            let edge = Arc::new(Reading { file: theirs, reloads: AtomicU32::new(0) });
            let _server = Listener::bind(&config.control).unwrap().serve(Arc::clone(&edge)).unwrap();
            for changed in [&file, &link] {
                assert_eq!(reload(&config, changed).unwrap(), said);
            }
            let reloads = if said == TakenOver::Yes { 2 } else { 0 };
            assert_eq!(edge.reloads.load(Ordering::Relaxed), reloads, "{said:?}");
        }
    }

    fn fields() -> Fields {
        Fields { covers: vec!["example.jp".into()], action: Some(Action::Reject), ..Fields::default() }
    }

    #[test]
    fn a_filter_is_added_behind_the_others_and_everything_else_stays() {
        let (_dir, file) = written();
        let fields = Fields { memo: Some("転送 \"x\"".into()), off: true, ..fields() };
        add(Add { fields, before: None, force: FORCE }, &file, false).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let new =
            "\n[[filter]]\nmemo = '転送 \"x\"'\ncovers = [\"example.jp\"]\naction = \"reject\"\non = false\n";
        assert_eq!(text, FILE.replace("\n# Keys follow.", &format!("{new}\n# Keys follow.")));
        assert_eq!(load(&file).unwrap().filters[1].memo, "転送 \"x\"");
    }

    #[test]
    fn a_filter_can_be_added_before_another_that_keeps_its_comment() {
        let (_dir, file) = written();
        add(Add { fields: fields(), before: Some(0), force: FORCE }, &file, false).unwrap();
        let new = "\n[[filter]]\ncovers = [\"example.jp\"]\naction = \"reject\"\n";
        let expected = FILE.replace("\n# The board's", &format!("{new}\n# The board's"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), expected);
        add(
            Add { fields: Fields { covers: vec!["*".into()], ..fields() }, before: Some(1), force: FORCE },
            &file,
            false,
        )
        .unwrap();
        let covers: Vec<Vec<String>> =
            load(&file).unwrap().filters.into_iter().map(|filter| filter.covers).collect();
        assert_eq!(covers, [["example.jp"], ["*"], ["ann@example.jp"]]);
        assert!(add(Add { fields: fields(), before: Some(4), force: FORCE }, &file, false).is_err());
    }

    #[test]
    fn the_first_filter_of_a_file_stands_behind_everything() {
        let (_dir, file) = written();
        remove(Remove { place: 0, force: FORCE }, &file, false).unwrap();
        assert!(load(&file).unwrap().filters.is_empty());
        add(Add { fields: fields(), before: None, force: FORCE }, &file, false).unwrap();
        assert_eq!(load(&file).unwrap().filters[0].action, Action::Reject);
        assert!(std::fs::read_to_string(&file).unwrap().contains("# 0700"));
    }

    #[test]
    fn a_change_leaves_the_comments_beside_it() {
        let (_dir, file) = written();
        let fields =
            Fields { covers: vec!["bob@example.jp".into(), "*".into()], on: true, ..Fields::default() };
        edit(Edit { place: 0, fields, force: FORCE }, &file, false).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let expected = FILE
            .replace("[\"ann@example.jp\"]", "[\"bob@example.jp\", \"*\"]")
            .replace("action = \"deliver\"\n", "action = \"deliver\"\non = true\n");
        assert_eq!(text, expected);
    }

    #[test]
    fn a_change_that_would_be_wrong_is_not_written() {
        let (dir, file) = written();
        let wrong = Fields { covers: vec!["example.net".into()], ..fields() };
        let error =
            add(Add { fields: wrong, before: None, force: FORCE }, &file, false).unwrap_err().to_string();
        assert!(error.contains("nothing was changed") && error.contains("example.net"), "{error}");
        let long = Fields { memo: Some("字".repeat(81)), ..Fields::default() };
        assert!(edit(Edit { place: 0, fields: long, force: FORCE }, &file, false).is_err());
        assert!(edit(Edit { place: 1, fields: fields(), force: FORCE }, &file, false).is_err());
        assert!(edit(Edit { place: 0, fields: Fields::default(), force: FORCE }, &file, false).is_err());
        assert!(remove(Remove { place: 1, force: FORCE }, &file, false).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), FILE);
        assert_eq!(dir.path().read_dir().unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn mode_and_links_stay_as_they_are() {
        use std::os::unix::fs::PermissionsExt as _;
        let (dir, file) = written();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        let link = dir.path().join("link.toml");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        add(Add { fields: fields(), before: None, force: FORCE }, &link, false).unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(load(&file).unwrap().filters.len(), 2);
    }
}
