//! What works: one host after the other, back again, looking without touching; and who may not.

use anyhow::Result;
use lab::ssh::Fault;
use serde_json::Value;

use super::fleet::{Fleet, NAMES, good, is_healthy, release_of, state};

fn all<'a>(said: &'a Value, field: &str) -> Vec<&'a Value> {
    said["hosts"].as_array().map(|hosts| hosts.iter().map(|host| &host[field]).collect()).unwrap_or_default()
}

#[test]
fn a_release_goes_to_fresh_hosts_an_upgrade_after_it_and_back_again() -> Result<()> {
    let fleet = Fleet::up("deploy")?;
    let folder = fleet.folder.path();
    let releases = ["one", "two", "three", "four"]
        .map(|mark| good(folder, mark))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let before = fleet.hosts.iter().map(state).collect::<Result<Vec<_>>>()?;

    // A dry run says what it would do, and does nothing.
    let (output, said) = fleet.deploy(&releases[0], &NAMES, &["--dry-run"])?;
    assert!(output.status.success(), "{}", fleet.explain(&output));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("mx2: would copy") && words.contains("etc/backstop.toml"), "{words}");
    assert_eq!(all(&said, "release"), [&Value::Null; 3]);
    // Nothing is installed: --status says so with exit code 1.
    let (output, _) = fleet.xtask(&[&["--status"], &NAMES[..]].concat())?;
    assert_eq!(output.status.code(), Some(1), "{}", fleet.explain(&output));
    for (host, before) in fleet.hosts.iter().zip(before) {
        assert_eq!(state(host)?, before, "{} was touched", host.name());
    }

    let (output, said) = fleet.deploy(&releases[0], &NAMES, &[])?;
    assert!(output.status.success(), "{}", fleet.explain(&output));
    assert_eq!(all(&said, "outcome"), ["deployed"; 3]);
    assert_eq!(all(&said, "healthy"), [true; 3]);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let at = |what: &str| words.find(what).unwrap_or_else(|| panic!("{what} is not in {words}"));
    assert!(
        at("mx1: 0.1.0-") < at("mx2: switching"),
        "the second began before the first was healthy: {words}"
    );
    for host in &fleet.hosts {
        assert!(is_healthy(host)?, "{}", host.name());
        assert_eq!(host.read("stat -c '%a %U:%G' /etc/backstop/keys/*")?, "640 root:backstop");
        assert!(
            host.read("cat /etc/backstop/backstop.toml")?.contains(&format!("{}.example.jp", host.name()))
        );
    }
    let first = release_of(&fleet.hosts[0])?;

    // The same again: nothing to do, and no restart.
    let pid = "systemctl show --property MainPID --value backstop";
    let runs = fleet.hosts[0].read(pid)?;
    let (output, said) = fleet.deploy(&releases[0], &NAMES, &[])?;
    assert!(output.status.success(), "{}", fleet.explain(&output));
    assert_eq!(all(&said, "outcome"), ["unchanged"; 3]);
    assert_eq!(fleet.hosts[0].read(pid)?, runs);

    // The operator's configuration stays as it is from now on.
    fleet.hosts[0].read("echo '# mine' >>/etc/backstop/backstop.toml")?;
    let (output, said) = fleet.deploy(&releases[1], &NAMES, &[])?;
    assert!(output.status.success(), "{}", fleet.explain(&output));
    assert_eq!(all(&said, "before"), [&Value::from(first.clone()); 3]);
    assert!(fleet.hosts[0].read("cat /etc/backstop/backstop.toml")?.ends_with("# mine"));
    assert_ne!(runs, fleet.hosts[0].read(pid)?, "it was restarted");
    let second = release_of(&fleet.hosts[0])?;
    assert_ne!(first, second);

    // Back, unit file and all; and forward again.
    let (output, said) = fleet.xtask(&[&["--rollback"], &NAMES[..]].concat())?;
    assert!(output.status.success(), "{}", fleet.explain(&output));
    assert_eq!(all(&said, "outcome"), ["rolled_back"; 3]);
    for host in &fleet.hosts {
        assert_eq!(release_of(host)?, first);
        assert!(
            host.read("cat /etc/systemd/system/backstop.service /run/standin/loaded")?
                .contains("in the lab: one")
        );
    }
    let (output, _) = fleet.xtask(&["--rollback", "mx1"])?;
    assert!(output.status.success(), "{}", fleet.explain(&output));
    assert_eq!(release_of(&fleet.hosts[0])?, second);

    // Three are kept: of four releases the one in use, the one before, and the newest besides.
    for release in &releases[2..] {
        let (output, _) = fleet.deploy(release, &["mx1"], &[])?;
        assert!(output.status.success(), "{}", fleet.explain(&output));
    }
    let (output, said) = fleet.xtask(&["--status", "mx1"])?;
    assert!(output.status.success(), "{}", fleet.explain(&output));
    assert_eq!(said["hosts"][0]["kept"].as_array().map(Vec::len), Some(3), "{said}");
    assert_eq!(fleet.hosts[0].read("ls /usr/local/lib/backstop | wc -l")?, "3");

    // For eyes: a table.
    let output = fleet.command(&[&["--status"], &NAMES[..]].concat()).output()?;
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{table}");
    assert_eq!(table.lines().filter(|line| line.contains("healthy")).count(), 3, "{table}");
    Ok(())
}

#[test]
fn two_deployers_do_not_meet_and_one_that_is_killed_leaves_no_lock() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (one, two) = (good(folder.path(), "one")?, good(folder.path(), "two")?);
    let fleet = Fleet::with_release("deploylock", &one, 2)?;
    let host = &fleet.hosts[1];
    let before = state(host)?;
    let untouched = state(&fleet.hosts[0])?;
    // The first deployer is at the second host's upload.
    host.fault(Fault::Hangs, 0, "cat ")?;
    let (binary, units) = (two.binary.clone(), two.units.clone());
    let mut first = fleet
        .command(&["mx2", "--binary", super::fleet::shown(&binary), "--units", super::fleet::shown(&units)])
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    wait_until(|| host.fault_happened())?;
    let (output, said) = fleet.deploy(&two, &["mx1", "mx2"], &[])?;
    assert_eq!(output.status.code(), Some(2), "{}", fleet.explain(&output));
    let error = said["hosts"][0]["error"].as_str().unwrap_or_default();
    assert!(error.contains("locked by") && error.contains("since"), "{said}");
    assert_eq!(state(&fleet.hosts[0])?, untouched, "the first host was changed though the second is locked");
    let (_, said) = fleet.xtask(&["--status", "mx2"])?;
    assert!(said["hosts"][0]["locked_by"].as_str().is_some_and(|by| by.contains('@')), "{said}");

    // `kill -9`: nothing of it is left, and the next one gets in.
    let nsenter = first.id().to_string();
    let inner = std::fs::read_to_string(format!("/proc/{nsenter}/task/{nsenter}/children"))?;
    let pid = nix::unistd::Pid::from_raw(inner.trim().parse()?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)?;
    first.wait()?;
    host.go_on()?;
    wait_until(|| state(host).is_ok_and(|now| now == before))?;
    host.forget_fault()?;
    let (output, _) = fleet.deploy(&two, &["mx1", "mx2"], &[])?;
    assert!(output.status.success(), "{}", fleet.explain(&output));
    Ok(())
}

#[test]
fn what_was_installed_by_hand_is_kept_as_a_release_to_go_back_to() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (one, two) = (good(folder.path(), "one")?, good(folder.path(), "two")?);
    let fleet = Fleet::with_release("deployhand", &one, 1)?;
    let host = &fleet.hosts[0];
    // As README's older lines had it: a file, a unit, and no directory of releases.
    host.read(
        "cp --remove-destination $(readlink -f /usr/local/bin/backstop) /usr/local/bin/backstop.new
         mv /usr/local/bin/backstop.new /usr/local/bin/backstop
         rm -r /usr/local/lib/backstop
         systemctl restart backstop.service",
    )?;
    let (output, _) = fleet.deploy(&two, &["mx1"], &[])?;
    assert!(output.status.success(), "{}", fleet.explain(&output));
    let (output, said) = fleet.xtask(&["--rollback", "mx1"])?;
    assert!(output.status.success(), "{}", fleet.explain(&output));
    assert!(
        said["hosts"][0]["release"].as_str().is_some_and(|release| release.starts_with("found-")),
        "{said}"
    );
    assert!(is_healthy(host)?);
    assert!(host.read("cat /run/standin/loaded")?.contains("in the lab: one"));
    Ok(())
}

#[test]
fn the_way_back_survives_what_was_done_by_hand_or_twice() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (one, two) = (good(folder.path(), "one")?, good(folder.path(), "two")?);
    let fleet = Fleet::with_release("deploytwice", &one, 1)?;
    let host = &fleet.hosts[0];
    let first = release_of(host)?;
    let deploy = |made| {
        let (output, said) = fleet.deploy(made, &["mx1"], &[])?;
        assert!(output.status.success(), "{}", fleet.explain(&output));
        anyhow::Ok(said["hosts"][0]["release"].clone())
    };
    deploy(&two)?;
    // The release in use, deployed once more because it is down, does not become the one before itself.
    host.read("systemctl stop backstop.service")?;
    deploy(&two)?;
    let (output, _) = fleet.xtask(&["--rollback", "mx1"])?;
    assert!(output.status.success(), "{}", fleet.explain(&output));
    assert_eq!(release_of(host)?, first);
    // A program that was copied over the link, and a release that is kept here already.
    host.read(
        "cp $(readlink -f /usr/local/bin/backstop) /usr/local/bin/hotfix && echo fix >>/usr/local/bin/hotfix
         mv /usr/local/bin/hotfix /usr/local/bin/backstop && systemctl restart backstop.service",
    )?;
    let second = deploy(&two)?;
    assert_eq!(release_of(host)?, second.as_str().unwrap_or_default());
    let (output, said) = fleet.xtask(&["--rollback", "mx1"])?;
    assert!(output.status.success(), "{}", fleet.explain(&output));
    let back = said["hosts"][0]["release"].as_str().unwrap_or_default();
    assert!(back.starts_with("found-"), "{said}");
    Ok(())
}

#[test]
fn another_installation_is_left_alone_and_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let one = good(folder.path(), "one")?;
    let fleet = Fleet::up("deployforeign")?;
    let host = &fleet.hosts[0];
    host.read("printf '[Service]\nExecStart=/opt/backstop run\n' >/etc/systemd/system/backstop.service")?;
    let before = state(host)?;
    let (output, said) = fleet.deploy(&one, &["mx1"], &[])?;
    assert_eq!(output.status.code(), Some(1), "{}", fleet.explain(&output));
    let words = format!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(words.contains("installed in another way"), "{words}");
    assert_eq!(state(host)?, before);
    Ok(())
}

fn wait_until(mut is: impl FnMut() -> bool) -> Result<()> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !is() {
        anyhow::ensure!(std::time::Instant::now() < deadline, "it did not come about within 60 s");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    Ok(())
}
