//! The commented file that `backstop init` writes: each key with its doc comment, its default or an example.
//!
//! A line that begins with `# ` is the manual's; one that begins with `#key` is a key with its default, or an example
//! where it has none: taking the `#` off sets it.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::section::{Field, Kind, Section as _};
use super::{Config, parse};

/// What an operator must decide.
#[derive(Clone, Debug)]
pub struct Answers {
    /// The edge's own name.
    pub hostname: String,
    /// Where mail from the Internet comes in.
    pub listen: Vec<SocketAddr>,
    /// The operator's domains, all behind one mail server.
    pub domains: Vec<String>,
    /// That mail server.
    pub upstream: SocketAddr,
    /// The edge's address as that server sees it, where it is on another host.
    pub seen_as: Option<IpAddr>,
    /// The directory of the keys.
    pub keys: PathBuf,
}

/// Examples for what has no default and nobody was asked about; `example.com` stands for the first domain.
const EXAMPLES: &str = r#"
[outbound]
listen = ["127.0.0.1:10025"]
networks = ["127.0.0.0/8"]
next_hop = "127.0.0.1:10026"
[[outbound.tenant]]
networks = ["40.92.0.0/15", "40.107.0.0/16", "52.100.0.0/14", "104.47.0.0/17"]
secret_file = "/etc/backstop/tenant.secret"
[[tls.certificate]]
chain = "/etc/backstop/tls/fullchain.pem"
key = "/etc/backstop/tls/privkey.pem"
[[tls.upstream]]
address = "127.0.0.1:10026"
mode = "verified"
name = "mail.example.com"
ca_file = "/etc/backstop/tls/ca.pem"
[[trusted_forwarder]]
memo = "Ann's other mailbox"
networks = ["192.0.2.0/24"]
recipients = ["ann@example.com"]
[xdp]
interface = "eth0"
[control]
write_group = "backstop"
read_group = "adm"
"#;

impl Answers {
    /// The commented file.
    #[must_use]
    pub fn write(&self) -> String {
        let given = self.given();
        let mut out = String::from(
            "# The configuration of Backstop. `backstop check` says what is wrong with it.\n\
             # Lines like `#key = value` show defaults, or examples: take the # off to set them.\n\n",
        );
        section(&mut out, "", Config::FIELDS, &everything(&given, &self.examples()), Some(&given));
        out
    }

    /// [`EXAMPLES`], in which outgoing mail comes from where the mail server is, and goes back to it.
    fn examples(&self) -> String {
        let Some(edge) = self.seen_as else { return EXAMPLES.to_owned() };
        let server = self.upstream.ip();
        let bits = if server.is_ipv4() { 32 } else { 128 };
        EXAMPLES
            .replace("127.0.0.1:10025", &SocketAddr::new(edge, 10025).to_string())
            .replace("127.0.0.0/8", &format!("{server}/{bits}"))
            .replace("127.0.0.1:10026", &SocketAddr::new(server, 10026).to_string())
    }

    /// The keys that are set.
    fn given(&self) -> Table {
        let text = |text: &str| Value::String(text.to_owned());
        let listen = self.listen.iter().map(|address| text(&address.to_string())).collect();
        let table = |pairs: Vec<(&str, Value)>| -> Table {
            pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
        };
        let domains = self.domains.iter().map(|domain| {
            Value::Table(table(vec![("name", text(domain)), ("upstream", text(&self.upstream.to_string()))]))
        });
        let filter = table(vec![
            ("memo", text("Bounces of mail that we never sent")),
            ("covers", Value::Array(vec![text("*")])),
            ("action", text("monitor")),
            ("on", Value::Boolean(true)),
        ]);
        table(vec![
            ("hostname", text(&self.hostname)),
            ("inbound", Value::Table(table(vec![("listen", Value::Array(listen))]))),
            ("domain", Value::Array(domains.collect())),
            ("signature", Value::Table(table(vec![("keys", text(&self.keys.to_string_lossy()))]))),
            ("filter", Value::Array(vec![Value::Table(filter)])),
        ])
    }
}

/// All keys with a value: those given, examples, defaults.
fn everything(given: &Table, examples: &str) -> Table {
    let mut table = given.clone();
    let example = |domain: &str| examples.replace("example.com", domain).parse::<Table>();
    let first = given.get("domain").and_then(|domains| domains.get(0)?.get("name")?.as_str());
    table.extend(example(first.unwrap_or("example.com")).unwrap_or_default());
    // What is given may be wrong (a domain that is none): then there are no defaults to show, and who reads the
    // file anew says what is wrong.
    match parse(&table.to_string(), Path::new("")) {
        Ok(loaded) => Table::try_from(&loaded.config).unwrap_or(table),
        Err(_) => table,
    }
}

/// Writes the keys of one section, then the sections inside it. `given` is what is set; `None`: nothing is, the
/// section itself included.
fn section(out: &mut String, path: &str, fields: &[Field], values: &Table, given: Option<&Table>) {
    for field in fields {
        let value = values.get(field.key);
        let set = given.and_then(|given| given.get(field.key));
        match field.kind {
            Kind::Plain(expected) => {
                comment(out, field);
                match (set, value) {
                    (Some(set), _) => *out += &format!("{} = {set}\n", field.key),
                    (None, Some(value)) => *out += &format!("#{} = {value}\n", field.key),
                    (None, None) => *out += &format!("# {}: {expected}\n", field.key),
                }
            }
            Kind::Table(inner) => {
                let Some(Value::Table(values)) = value else { continue };
                let empty = Table::new();
                // A section whose keys all have defaults is there, and empty; another one only when it is set.
                let set = match set {
                    Some(Value::Table(set)) => Some(set),
                    Some(_) | None => inner.iter().all(optional).then_some(&empty),
                };
                out.push('\n');
                comment(out, field);
                header(out, &format!("[{path}{}]", field.key), set.is_some());
                section(out, &format!("{path}{}.", field.key), inner, values, set);
            }
            Kind::Tables(inner) => {
                let Some(Value::Array(elements)) = value else { continue };
                let set = set.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                out.push('\n');
                comment(out, field);
                for (place, element) in elements.iter().enumerate() {
                    let (Value::Table(values), set) = (element, set.get(place).and_then(Value::as_table))
                    else {
                        continue;
                    };
                    header(out, &format!("[[{path}{}]]", field.key), set.is_some());
                    match (place, set) {
                        (0, set) => section(out, &format!("{path}{}.", field.key), inner, values, set),
                        // The manual stands at the first one.
                        (_, Some(set)) => *out += &set.to_string(),
                        (_, None) => {}
                    }
                }
            }
        }
    }
}

fn optional(field: &Field) -> bool {
    match field.kind {
        Kind::Plain(_) => field.optional,
        Kind::Table(inner) => inner.iter().all(optional),
        Kind::Tables(_) => field.optional,
    }
}

fn header(out: &mut String, name: &str, set: bool) {
    if !set {
        out.push('#');
    }
    *out += name;
    out.push('\n');
}

fn comment(out: &mut String, field: &Field) {
    for line in field.doc {
        *out += &format!("#{line}\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers() -> Answers {
        Answers {
            hostname: "mx.example.jp".into(),
            listen: vec!["0.0.0.0:25".parse().unwrap(), "[::]:25".parse().unwrap()],
            domains: vec!["example.jp".into(), "example.net".into()],
            upstream: "127.0.0.1:10024".parse().unwrap(),
            seen_as: None,
            keys: "/etc/backstop/keys".into(),
        }
    }

    #[test]
    fn the_example_of_outgoing_mail_names_both_hosts_where_there_are_two() {
        let seen_as = Some("192.0.2.25".parse().unwrap());
        let text = Answers { upstream: "192.0.2.30:25".parse().unwrap(), seen_as, ..answers() }.write();
        let config = loaded(&uncommented(&text));
        let outbound = config.outbound.unwrap();
        assert_eq!(outbound.listen, ["192.0.2.25:10025".parse().unwrap()]);
        assert_eq!(outbound.networks, ["192.0.2.30/32".parse().unwrap()]);
        assert_eq!(outbound.next_hop.first(), "192.0.2.30:10026".parse().unwrap());
    }

    /// The file with every key set, the defaults and examples too.
    fn uncommented(text: &str) -> String {
        let lines = text.lines().map(|line| match line.strip_prefix('#') {
            Some(set) if !set.starts_with(' ') => set,
            Some(_) | None => line,
        });
        lines.map(|line| format!("{line}\n")).collect()
    }

    fn loaded(text: &str) -> Config {
        let loaded =
            parse(text, Path::new("written.toml")).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        assert_eq!(loaded.warnings, [], "{text}");
        loaded.config
    }

    #[test]
    fn what_is_written_loads_and_says_what_was_answered() {
        let text = answers().write();
        let config = loaded(&text);
        assert_eq!(config.hostname, "mx.example.jp");
        assert_eq!(config.domains[1].name, "example.net");
        assert_eq!(config.domains[1].upstream, answers().upstream.into());
        assert_eq!(config.signature.keys, answers().keys);
        assert_eq!(config.filters[0].action, edge_core::policy::Action::Monitor);
        assert!(config.outbound.is_none() && config.xdp.is_none(), "{text}");
    }

    #[test]
    fn the_defaults_that_are_shown_are_the_defaults() {
        let text = answers().write();
        let (short, long) = (loaded(&text), loaded(&uncommented(&text)));
        assert!(long.xdp.is_some() && long.outbound.is_some());
        let without_examples = Config {
            outbound: None,
            tls: super::super::Tls { certificates: vec![], upstreams: vec![], ..long.tls.clone() },
            trusted_forwarders: Vec::new(),
            xdp: None,
            control: super::super::Control { write_group: None, read_group: None, ..long.control.clone() },
            ..long
        };
        assert_eq!(Table::try_from(&without_examples).unwrap(), Table::try_from(&short).unwrap());
    }

    #[test]
    fn every_key_stands_there_with_its_manual() {
        fn check(text: &str, fields: &[Field], header: &str, path: &str) {
            let start = text.find(header).unwrap_or_else(|| panic!("{header} is missing in\n{text}"));
            for field in fields {
                assert!(!field.doc.is_empty(), "{} has no manual", field.key);
                let manual: String = field.doc.iter().map(|line| format!("#{line}\n")).collect();
                let stands = match field.kind {
                    Kind::Plain(_) => format!("{manual}{} = ", field.key),
                    Kind::Table(_) => format!("{manual}[{path}{}]\n", field.key),
                    Kind::Tables(_) => format!("{manual}[[{path}{}]]\n", field.key),
                };
                assert!(text[start..].contains(&stands), "after {header} this is missing:\n{stands}\n{text}");
                let inside = format!("{path}{}.", field.key);
                match field.kind {
                    Kind::Plain(_) => {}
                    Kind::Table(inner) => {
                        check(text, inner, &format!("\n[{path}{}]\n", field.key), &inside);
                    }
                    Kind::Tables(inner) => {
                        check(text, inner, &format!("\n[[{path}{}]]\n", field.key), &inside);
                    }
                }
            }
        }
        check(&uncommented(&answers().write()), Config::FIELDS, "", "");
    }
}
