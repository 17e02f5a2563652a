//! A deployment as a client sees it: the restart that it makes refuses no connection, because the service manager keeps
//! the listening sockets (`FileDescriptorStoreMax=` in the unit).

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::client::Client;
use lab::{EDGE, Host};

use super::fleet::{Fleet, NAMES, good};

/// Between two clients.
const PAUSE: Duration = Duration::from_millis(20);
const MAIN_PID: &str = "systemctl show --property MainPID --value backstop";

#[test]
fn nobody_who_connects_while_a_release_is_deployed_and_taken_back_is_refused() -> Result<()> {
    let fleet = Fleet::up("deploy-connections")?;
    let folder = fleet.folder.path();
    let (first, second) = (good(folder, "one")?, good(folder, "two")?);
    let (output, _) = fleet.deploy(&first, &NAMES[..1], &[])?;
    ensure!(output.status.success(), "{}", fleet.explain(&output));
    let runs = fleet.hosts[0].read(MAIN_PID)?;

    let over = AtomicBool::new(false);
    let (worked, greeted) = thread::scope(|scope| {
        let clients = scope.spawn(|| -> Result<u32> {
            let mut greeted = 0;
            while !over.load(Ordering::Relaxed) {
                let client =
                    Client::connect(&fleet.lab, Host::Internet, Some(lab::client(3)), (EDGE, 25).into());
                let mut client = client.with_context(|| format!("client {greeted}"))?;
                ensure!([220, 421].contains(&client.greeting.code), "{}", client.greeting);
                // The edge may end the session first, by a 421.
                let _ = client.command("QUIT");
                greeted += 1;
                thread::sleep(PAUSE);
            }
            Ok(greeted)
        });
        let work = || -> Result<()> {
            for arguments in [&[][..], &["--rollback"][..]] {
                let (output, _) = match arguments {
                    [] => fleet.deploy(&second, &NAMES[..1], &[])?,
                    rollback => fleet.xtask(&[rollback, &NAMES[..1]].concat())?,
                };
                ensure!(output.status.success(), "{}", fleet.explain(&output));
            }
            Ok(())
        };
        let worked = work();
        over.store(true, Ordering::Relaxed);
        (worked, clients.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    worked?;
    let greeted = greeted?;
    assert!(greeted > 20, "{greeted} clients");
    assert_ne!(fleet.hosts[0].read(MAIN_PID)?, runs, "it was restarted");
    let log = fleet.hosts[0].read("cat /var/log/backstop.log")?;
    assert!(!log.contains("was not asked to keep"), "{log}");
    Ok(())
}
