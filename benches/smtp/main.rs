//! `backstop-bench-smtp`: the floor and the load as programs, for `cargo xtask bench smtp`, or by hand.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bench_smtp::floor::Floor;
use bench_smtp::guest::Task;
use bench_smtp::load::Load;
use bench_smtp::nginx;
use bench_smtp::row::Row;
use bench_smtp::slow::{Plan, Senders};
use bench_smtp::tls::Client;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "backstop-bench-smtp", about = "What an SMTP session costs: the floor, and the load")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The floor, until it is ended; it says where it listens.
    Floor {
        /// Where to listen.
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Tells nginx's mail proxy where to pass sessions on to (`auth_http`), until it is ended.
    NginxAsks {
        /// Where to listen.
        #[arg(long)]
        listen: SocketAddr,
        /// Where to.
        #[arg(long)]
        then: SocketAddr,
    },
    /// Senders of an octet a second, until they are ended; a JSON object a few times a second says how they are.
    Slow {
        /// Where to.
        #[arg(long)]
        target: SocketAddr,
        /// How many at once.
        #[arg(long)]
        senders: usize,
        /// The first source address.
        #[arg(long)]
        source: Ipv4Addr,
        /// How many source addresses there are.
        #[arg(long)]
        sources: u32,
        /// As long as this file is there, they say nothing and keep their places.
        #[arg(long, value_name = "FILE")]
        rest: PathBuf,
    },
    /// Sessions of one row; ends with one JSON object.
    Load {
        /// Where to.
        #[arg(long)]
        target: SocketAddr,
        /// What is said: `refused_rcpt`, ...
        #[arg(long, value_parser = row)]
        row: Row,
        /// Sessions in all.
        #[arg(long)]
        sessions: u64,
        /// Sessions at once.
        #[arg(long, default_value_t = 50)]
        at_once: usize,
        /// The first source address; without it, the kernel chooses.
        #[arg(long)]
        source: Option<Ipv4Addr>,
        /// How many source addresses there are.
        #[arg(long, default_value_t = 1)]
        sources: u32,
        /// The certificate (PEM) that a server of a row over TLS must show.
        #[arg(long, value_name = "FILE")]
        certificate: Option<PathBuf>,
    },
    /// Inside a guest: idle connections, and active sessions beside them; a line of JSON for each figure.
    Guest {
        /// The server that holds the connections.
        #[arg(long)]
        target: SocketAddr,
        /// Its process.
        #[arg(long)]
        pid: u32,
        /// The server that has nothing beside.
        #[arg(long)]
        calm: SocketAddr,
        /// What must listen too before it begins.
        #[arg(long)]
        sink: SocketAddr,
        /// How many connections are held at each step.
        #[arg(long, value_delimiter = ',')]
        steps: Vec<usize>,
        /// The first source address.
        #[arg(long)]
        source: Ipv4Addr,
        /// How many source addresses there are.
        #[arg(long)]
        sources: u32,
        /// With it, idle connections go over to TLS: the certificate (PEM) that the server must show.
        #[arg(long, value_name = "FILE")]
        certificate: Option<PathBuf>,
        /// How often active sessions are measured.
        #[arg(long)]
        pairs: u32,
        /// Active sessions each time.
        #[arg(long)]
        sessions: u64,
    },
}

fn row(name: &str) -> Result<Row, String> {
    Row::named(name).ok_or_else(|| format!("one of {}", Row::ALL.map(Row::name).join(", ")))
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Floor { listen } => {
            let floor = Floor::listen(listen)?;
            println!("listening at {}", floor.address);
            match floor.serve()? {}
        }
        Command::NginxAsks { listen, then } => match nginx::answer(listen, then)? {},
        Command::Slow { target, senders, source, sources, rest } => {
            let plan = Plan { target, senders, sources: (source, sources) };
            Senders::new(plan).run(|told| {
                println!("{}", serde_json::to_string(&told)?);
                while rest.exists() {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Ok(true)
            })
        }
        Command::Load { target, row, sessions, at_once, source, sources, certificate } => {
            let load = Load {
                target,
                sources: source.map(|first| (first, sources)),
                sessions,
                at_once,
                dialogues: row.dialogues(),
                tls: certificate.as_deref().map(Client::trusting).transpose()?,
            };
            let took = load.run().with_context(|| format!("{} at {target}", row.name()))?;
            println!("{}", serde_json::to_string(&took)?);
            Ok(())
        }
        Command::Guest { target, pid, calm, sink, steps, source, sources, certificate, pairs, sessions } => {
            let sources = (source, sources);
            let task = Task { target, pid, calm, sink, steps, sources, certificate, pairs, sessions };
            task.run(&mut std::io::stdout().lock())
        }
    }
}
