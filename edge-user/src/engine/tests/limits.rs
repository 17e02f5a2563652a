//! Places, budgets, bans, silence, and the end of the edge.

use edge_core::reputation::Cause;
use edge_core::source::Source;

use super::*;

fn loopback() -> Source {
    "127.0.0.1".parse().expect("a source")
}

#[tokio::test]
async fn no_more_sessions_than_there_are_places() {
    let lab = Lab::with(Script::default(), |config| config.limits.sessions_per_source_max = 2).await;
    let (_first, _second) = (lab.greeted().await, lab.greeted().await);
    let mut third = lab.connect().await;
    third.expect("421 4.3.2").await;
    third.expect_end().await;
    assert_eq!(lab.edge.metrics.refused_full.get(), 1);
}

#[tokio::test]
async fn over_the_budget_of_connections_is_421() {
    let lab = Lab::with(Script::default(), |config| {
        config.reputation.connections_burst = 2.0;
        config.reputation.connections_per_sec = 0.0;
    })
    .await;
    lab.greeted().await;
    lab.greeted().await;
    let mut third = lab.connect().await;
    third.expect("421 4.7.0").await;
    third.expect_end().await;
    assert_eq!(lab.edge.metrics.refused_budget.get(), 1);
}

#[tokio::test]
async fn over_the_budget_of_unproven_bounces_each_still_gets_its_550_and_then_421() {
    let lab = Lab::with(Script::default(), |config| {
        config.reputation.unproven_burst = 3.0;
        config.reputation.unproven_per_sec = 0.0;
    })
    .await;
    let mut talk = lab.greeted().await;
    for _ in 0..3 {
        talk.envelope("", "user@ours.example").await;
        talk.say(".", "550 5.7.1").await;
    }
    talk.envelope("", "user@ours.example").await;
    talk.say(".", "550 5.7.1").await;
    talk.expect("421 4.7.0").await;
    talk.expect_end().await;
}

#[tokio::test]
async fn a_trap_bans_who_writes_to_it_with_a_sender() {
    let lab =
        Lab::with(Script::default(), |config| config.reputation.traps = vec!["trap@ours.example".into()])
            .await;
    let mut bounce = lab.greeted().await;
    bounce.say("MAIL FROM:<>", "250").await;
    bounce.say("RCPT TO:<trap@ours.example>", "550 5.1.1").await;
    bounce.say("NOOP", "250").await;
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<a@far.example>", "250").await;
    talk.say("RCPT TO:<trap@ours.example>", "550 5.1.1").await;
    talk.expect("421 4.7.0").await;
    talk.expect_end().await;
    let mut next = lab.connect().await;
    next.expect("421 4.7.0").await;
    assert_eq!(lab.upstream.seen().connections, 0);
}

#[tokio::test]
async fn who_always_passes_at_the_nic_is_not_banned_behind_it_either() {
    let lab = Lab::with(Script::default(), |config| {
        config.reputation.traps = vec!["trap@ours.example".into()];
        let xdp = "[xdp]\ninterface = \"lo\"\nallow = [\"127.0.0.0/8\"]\n";
        let text = CONFIG.replace("UPSTREAM", "127.0.0.1:9").replace("OTHER", "127.0.0.1:9");
        config.xdp = parsed(&format!("{text}{xdp}")).xdp;
    })
    .await;
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<a@far.example>", "250").await;
    talk.say("RCPT TO:<trap@ours.example>", "550 5.1.1").await;
    assert_eq!(lab.edge.reputation.bans(lab.edge.now()), []);
    lab.greeted().await;
}

#[tokio::test]
async fn a_banned_sources_sessions_end_at_their_command_border_and_not_in_a_body() {
    let lab = Lab::with_housekeeping(Script::default()).await;
    let (mut idle, mut busy) = (lab.greeted().await, lab.greeted().await);
    busy.envelope("a@far.example", "user@ours.example").await;
    busy.send("Subject: x\r\n").await;
    let until = lab.edge.now().plus(Duration::from_secs(60));
    let ban = lab.edge.reputation.ban(loopback(), until, Cause::Operator, lab.edge.now());
    ban.expect("not a never-ban prefix");
    lab.edge.tell_orders();
    idle.expect("421").await;
    idle.expect_end().await;
    busy.send("\r\nbody\r\n").await;
    busy.say(".", "250").await;
    busy.expect("421").await;
    busy.expect_end().await;
    assert_eq!(lab.upstream.seen().messages.len(), 1);
    assert_eq!(lab.edge.metrics.bans.get(), 1);
}

#[tokio::test]
async fn a_short_ban_that_waited_does_not_shorten_the_operators() {
    let lab = Lab::with_housekeeping(Script::default()).await;
    let mut busy = lab.greeted().await;
    busy.envelope("a@far.example", "user@ours.example").await;
    for (cause, secs) in [(Cause::Trap, 60), (Cause::Operator, 3600)] {
        let until = lab.edge.now().plus(Duration::from_secs(secs));
        let ban = lab.edge.reputation.ban(loopback(), until, cause, lab.edge.now());
        ban.expect("not a never-ban prefix");
    }
    lab.edge.tell_orders();
    while lab.edge.metrics.bans.get() < 2 {
        tokio::task::yield_now().await;
    }
    busy.say(".", "250").await;
    busy.expect("421").await;
    busy.expect_end().await;
    let written = |log: &str| log.lines().filter(|line| line.contains("\"secs\":")).count();
    while written(&lab.logged()) < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let log = lab.logged();
    let bans: Vec<_> = log.lines().filter(|line| line.contains("\"secs\":")).collect();
    assert!(bans.iter().all(|line| line.contains("operator")), "{bans:?}");
}

#[tokio::test]
async fn a_session_of_a_banned_source_that_never_ends_its_message_is_aborted() {
    let lab = Lab::with_housekeeping(Script::default()).await;
    let mut busy = lab.greeted().await;
    busy.envelope("a@far.example", "user@ours.example").await;
    let until = lab.edge.now().plus(Duration::from_secs(600));
    let ban = lab.edge.reputation.ban(loopback(), until, Cause::Operator, lab.edge.now());
    ban.expect("not a never-ban prefix");
    tokio::time::pause();
    busy.expect("421").await;
    busy.expect_end().await;
    assert_eq!(lab.upstream.seen().messages.len(), 0);
}

#[tokio::test]
async fn who_says_nothing_is_told_421_and_reputation_hears_of_it() {
    let lab = Lab::new(Script::default()).await;
    let banned = || lab.edge.reputation.bans(lab.edge.now());
    for _ in 0..3 {
        assert_eq!(banned(), [], "one may be slow");
        let mut talk = lab.connect().await;
        talk.expect("220").await;
        // Half a command is no command, however often it grows.
        talk.send("NO").await;
        tokio::time::pause();
        talk.expect("421 4.4.2").await;
        talk.expect_end().await;
        tokio::time::resume();
    }
    assert_eq!(banned().iter().map(|ban| ban.cause).collect::<Vec<_>>(), [Cause::HeldIdle]);
}

#[tokio::test]
async fn a_trickle_of_octets_is_no_command() {
    let lab = Lab::new(Script::default()).await;
    let mut talk = lab.greeted().await;
    tokio::time::pause();
    // One octet a minute: never silent for long, and never a whole command.
    let mut octets = 0;
    while talk.input.is_empty() && octets < 20 {
        let (mut chunk, minute) = ([0; 512], Duration::from_secs(60));
        talk.send("x").await;
        octets += 1;
        if let Ok(read) = timeout(minute, talk.stream.read(&mut chunk)).await {
            talk.input.extend_from_slice(&chunk[..read.expect("a reply")]);
        }
    }
    talk.expect("421 4.4.2").await;
    assert!(octets <= 7, "{octets} octets in as many minutes");
}

/// Says a NOOP each minute until told to go: for how many minutes.
async fn noops(talk: &mut Talk) -> u32 {
    tokio::time::pause();
    let mut minutes = 0;
    loop {
        tokio::time::sleep(Duration::from_secs(60)).await;
        talk.send("NOOP\r\n").await;
        match talk.reply().await {
            Some(reply) if reply.starts_with("250") && minutes < 60 => minutes += 1,
            reply => {
                assert!(reply.is_some_and(|reply| reply.starts_with("421 4.4.2")), "{minutes} minutes");
                return minutes;
            }
        }
    }
}

#[tokio::test]
async fn commands_that_get_nothing_done_keep_no_place() {
    let lab = Lab::new(Script::default()).await;
    let mut talk = lab.greeted().await;
    let minutes = noops(&mut talk).await;
    assert!((8..=10).contains(&minutes), "{minutes}");
}

#[tokio::test]
async fn a_message_that_trickles_ends() {
    let lab = Lab::new(Script::default()).await;
    let mut talk = lab.greeted().await;
    talk.envelope("", "user@ours.example").await;
    tokio::time::pause();
    let mut minutes = 0;
    while talk.input.is_empty() && minutes < 60 {
        let (mut chunk, minute) = ([0; 512], Duration::from_secs(60));
        talk.send("x\r\n").await;
        minutes += 1;
        if let Ok(read) = timeout(minute, talk.stream.read(&mut chunk)).await {
            talk.input.extend_from_slice(&chunk[..read.expect("a reply")]);
        }
    }
    talk.expect("421 4.4.2").await;
    assert!((9..=11).contains(&minutes), "{minutes} lines in as many minutes");
}

#[tokio::test]
async fn a_message_that_comes_slowly_but_steadily_is_taken() {
    let lab = Lab::new(Script::default()).await;
    let mut talk = lab.greeted().await;
    talk.envelope("a@far.example", "user@ours.example").await;
    let minute = format!("{}\r\n", "x".repeat(998)).repeat(62);
    tokio::time::pause();
    for _ in 0..30 {
        talk.send(&minute).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    talk.say(".", "250").await;
    talk.envelope("a@far.example", "user@ours.example").await;
    talk.say(".", "250").await;
}

#[tokio::test]
async fn who_is_silent_or_leaves_in_the_middle_of_a_transaction_held_a_place_for_nothing() {
    let lab = Lab::new(Script::default()).await;
    let mut talks = Vec::new();
    for _ in 0..3 {
        let mut talk = lab.greeted().await;
        talk.say("MAIL FROM:<>", "250").await;
        talk.say("RCPT TO:<user@ours.example>", "250").await;
        talks.push(talk);
    }
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(200)).await;
    drop(talks.pop());
    talks.pop().expect("a session").say("QUIT", "221").await;
    let mut last = talks.pop().expect("a session");
    last.expect("421 4.4.2").await;
    last.expect_end().await;
    let bans = lab.edge.reputation.bans(lab.edge.now());
    assert_eq!(bans.iter().map(|ban| ban.cause).collect::<Vec<_>>(), [Cause::HeldIdle]);
}

#[tokio::test]
async fn who_falls_silent_in_a_message_is_told_421_and_nothing_is_delivered() {
    let lab = Lab::new(Script::default()).await;
    let mut talk = lab.greeted().await;
    talk.envelope("a@far.example", "user@ours.example").await;
    talk.send("Subject: x\r\n").await;
    tokio::time::pause();
    talk.expect("421 4.4.2").await;
    talk.expect_end().await;
    assert_eq!(lab.upstream.seen().messages.len(), 0);
}

#[tokio::test]
async fn who_speaks_no_smtp_is_banned() {
    let lab = Lab::new(Script::default()).await;
    let mut talk = lab.connect().await;
    talk.expect("220").await;
    talk.send("GET / HTTP/1.1\r\nHost: edge\r\n\r\n").await;
    while talk.reply().await.is_some() {}
    let bans = lab.edge.reputation.bans(lab.edge.now());
    assert_eq!(
        bans.iter().map(|ban| (ban.source, ban.cause)).collect::<Vec<_>>(),
        [(loopback(), Cause::NotSmtp)]
    );
}

#[tokio::test]
async fn when_the_edge_stops_open_messages_end_and_nobody_new_comes() {
    let lab = Lab::new(Script::default()).await;
    let (mut idle, mut busy) = (lab.greeted().await, lab.greeted().await);
    busy.envelope("a@far.example", "user@ours.example").await;
    lab.stop.send(true).expect("the edge listens");
    idle.expect("421 4.3.2").await;
    busy.send("Subject: x\r\n\r\nbody\r\n").await;
    busy.say(".", "250").await;
    busy.expect("421 4.3.2").await;
    assert_eq!(lab.upstream.seen().messages.len(), 1);
    assert!(TcpStream::connect(lab.address).await.is_err(), "the listener is closed");
}

#[tokio::test]
async fn a_session_that_panics_ends_alone_and_is_counted() {
    let lab = Lab::new(Script::default()).await;
    let other = lab.greeted().await;
    let mut sessions = tokio::task::JoinSet::new();
    sessions.spawn(async { panic!("a fault of the program") });
    let ended = sessions.join_next().await.expect("it was spawned");
    crate::engine::worker::note_panic(&lab.edge, ended);
    assert_eq!(lab.edge.metrics.sessions_panicked.get(), 1);
    assert!(lab.logged().contains("a fault of the program"));
    let mut other = other;
    other.say("NOOP", "250").await;
}

#[test]
fn serve_ends_when_it_is_told_to() {
    let text = CONFIG.replace("UPSTREAM", "127.0.0.1:9").replace("OTHER", "127.0.0.1:9");
    let config = parsed(&text);
    let settings = Settings {
        format: LogFormat::Json,
        hasher: None,
        queue_lines_max: 100,
        clock: crate::engine::clock::system_now,
    };
    let log = EventLog::start(settings, io::sink()).expect("a thread");
    let edge = Edge::new(config, keys(), None, log, None).expect("an edge");
    let (stop, stopped) = watch::channel(false);
    let serving = std::thread::spawn(move || crate::engine::serve(edge, stopped));
    stop.send(true).expect("it listens");
    serving.join().expect("no panic").expect("no error");
}

#[tokio::test]
async fn proven_bounces_and_mail_of_correspondents_earn_credit_and_other_mail_does_not() {
    let lab = Lab::new(Script::default()).await;
    let known = || lab.edge.reputation.explain(loopback(), lab.edge.now());
    let mut talk = lab.greeted().await;
    talk.envelope("a@far.example", "user@ours.example").await;
    talk.say(".", "250").await;
    assert!(known().credit <= 0.0, "nobody here wrote to far.example: {:?}", known());
    lab.edge.correspondents.note(b"far.example", lab.edge.now());
    talk.envelope("a@FAR.example", "user@ours.example").await;
    talk.say(".", "250").await;
    let wanted = known();
    assert!(wanted.credit > 0.0 && wanted.wanted > 0, "{wanted:?}");
    talk.envelope("", &lab.tagged("user", "ours.example", 0)).await;
    talk.say(".", "250").await;
    assert!(known().credit > wanted.credit && known().proven == 1, "{:?}", known());
    talk.envelope("", "user@ours.example").await;
    talk.say(".", "550").await;
    assert_eq!(known().unproven, 1);
}

#[tokio::test]
async fn who_guesses_at_tags_is_over_a_budget_some_day_whatever_the_sender() {
    for sender in ["", "a@far.example"] {
        let lab = Lab::new(Script::default()).await;
        // Tags of another system, which stands before this one, cost nothing.
        let mut mail = lab.greeted().await;
        for number in 0..300 {
            mail.say(&format!("MAIL FROM:<{sender}>"), "250").await;
            mail.say(&format!("RCPT TO:<prvs=2234{number:06}=user@ours.example>"), "250").await;
            mail.say("RSET", "250").await;
        }
        let mut talk = lab.greeted().await;
        let mut guesses = 0;
        while guesses < 300 {
            talk.say(&format!("MAIL FROM:<{sender}>"), "250").await;
            talk.say(&format!("RCPT TO:<prvs=1234{guesses:06}=user@ours.example>"), "250").await;
            guesses += 1;
            talk.send("RSET\r\n").await;
            if talk.reply().await.is_none_or(|reply| reply.starts_with("421")) {
                break;
            }
        }
        assert!((100..300).contains(&guesses), "{guesses} guesses with the sender <{sender}>");
    }
}

#[tokio::test]
async fn an_edge_with_many_workers_takes_no_port_that_another_one_has() {
    let mut config = parsed(&CONFIG.replace("UPSTREAM", "127.0.0.1:9").replace("OTHER", "127.0.0.1:9"));
    let edge_of = |config: &Config| {
        let settings = Settings {
            format: LogFormat::Json,
            hasher: None,
            queue_lines_max: 1000,
            clock: crate::engine::clock::system_now,
        };
        let log = EventLog::start(settings, Log::default()).expect("a thread");
        Edge::new(config.clone(), keys(), None, log, None).expect("an edge")
    };
    // No other test is at this address: the port that was free for a single worker is free for many afterwards.
    config.inbound.listen[0].set_ip([127, 0, 7, 1].into());
    // A single worker first: only where many are wanted is the port shared.
    let reserved = Listeners::bind(&edge_of(&config), 1).expect("a port");
    config.inbound.listen = reserved.addresses(Direction::Inbound);
    drop(reserved);
    let first = Listeners::bind(&edge_of(&config), 2).expect("the port is free");
    let refused = Listeners::bind(&edge_of(&config), 2).expect_err("the mail would be split");
    assert!(format!("{refused:#}").contains(&config.inbound.listen[0].to_string()), "{refused:#}");
    drop(first);
    // A child that another test has just forked has the sockets until its exec.
    let begun = tokio::time::Instant::now();
    while let Err(error) = Listeners::bind(&edge_of(&config), 2) {
        assert!(begun.elapsed() < Duration::from_secs(60), "the port is never free again: {error:#}");
        std::thread::yield_now();
    }
}
