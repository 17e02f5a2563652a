//! The certificates of STARTTLS: usable, young enough, with the names that clients ask for, readable by the edge.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edge_core::time::UnixMillis;

use super::Subject;
use super::finding::Findings;
use super::who::{READ, Who};
use super::{process, unit};
use crate::engine::clock::system_now;
use crate::engine::tls::{Certificate, CertificateError, day};

/// A certificate that ends sooner was not renewed when it should have been: clients renew a month before.
const REST_MIN: Duration = Duration::from_secs(14 * 86_400);

/// What is known of one certificate.
struct Facts {
    chain: PathBuf,
    read: Result<Certificate, Refusal>,
    /// A file that the edge's user cannot read, and the user.
    unreadable: Option<(PathBuf, u32)>,
}

enum Refusal {
    /// This user may not look.
    Untold(String),
    Wrong(String),
}

pub(super) fn ask(subject: &Subject, findings: &mut Findings) {
    let settings = &subject.config.tls.certificates;
    if settings.is_empty() {
        let found = "no certificate: STARTTLS is not offered, and mail comes in clear";
        return findings.careful("certificates", found, "name one: [[tls.certificate]] (docs/tls.md)");
    }
    let user = process::daemon(subject).map(|(_, uid)| uid).or_else(unit::user);
    let who = user.filter(|user| *user != 0).map(Who::of);
    for (place, setting) in settings.iter().enumerate() {
        let read = Certificate::read(setting).map_err(|error| match error {
            CertificateError::Io { cause, path } if cause.kind() == ErrorKind::PermissionDenied => {
                Refusal::Untold(format!("{} may not be read by this user", path.display()))
            }
            error => Refusal::Wrong(error.to_string()),
        });
        let unreadable = who.as_ref().and_then(|who| {
            let files = [&setting.chain, &setting.key];
            let file = files.into_iter().find(|file| is_kept_from(who, file))?;
            Some((file.clone(), who.uid))
        });
        let facts = Facts { chain: setting.chain.clone(), read, unreadable };
        judge(place, &facts, &subject.config.hostname, system_now(), findings);
    }
}

/// Whether a user cannot read a file, or not come to it. What a symbolic link points to counts, and the folders on the
/// way there: certbot's `live` points into `archive`.
fn is_kept_from(who: &Who, file: &Path) -> bool {
    let file = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    who.stopped_at(&file).is_some() || who.lacks(READ, &file)
}

fn judge(place: usize, facts: &Facts, hostname: &str, now: UnixMillis, findings: &mut Findings) {
    let check = format!("certificate {place}");
    if let Some((file, user)) = &facts.unreadable {
        findings.bad(
            format!("{check} readable"),
            format!("not {}, for user {user}, which the edge runs as", file.display()),
            "let its group read file and folder (docs/tls.md); until then its next start fails, and so does a reload",
        );
    }
    let certificate = match &facts.read {
        Ok(certificate) => certificate,
        Err(Refusal::Untold(why)) => {
            return findings.careful(check, format!("not to be told: {why}"), "ask as root");
        }
        Err(Refusal::Wrong(error)) => {
            let fix = "until then the edge does not start, and a reload changes nothing";
            return findings.bad(check, error.clone(), fix);
        }
    };
    let oddities = certificate.oddities(now);
    for oddity in &oddities {
        findings.careful(check.clone(), oddity.to_string(), format!("look at {}", facts.chain.display()));
    }
    let (names, until) = (certificate.names.join(", "), day(certificate.not_after));
    if certificate.not_after >= now && certificate.not_after.since(now) < REST_MIN {
        let fix =
            "is it renewed by itself (certbot renew --dry-run), and followed by systemctl reload backstop?";
        findings.careful(check, format!("for {names}, but only until {until}"), fix);
    } else if oddities.is_empty() {
        findings.good(check, format!("for {names}, until {until}"));
    }
    if place == 0 && !certificate.has_name(hostname) {
        findings.careful(
            "default certificate",
            format!("it has not the name {hostname}, which the edge greets with"),
            "fine where the MX record names one of its names; else clients that verify do not take it",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TlsCertificate;

    #[test]
    fn a_certificate_is_judged_by_its_days_its_names_and_who_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let (chain, key) = (dir.path().join("chain.pem"), dir.path().join("key.pem"));
        let made = rcgen::generate_simple_self_signed(["mx.example.jp".to_owned()]).unwrap();
        std::fs::write(&chain, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        let read = || {
            Certificate::read(&TlsCertificate { chain: chain.clone(), key: key.clone(), names: vec![] })
                .map_err(|error| Refusal::Wrong(error.to_string()))
        };
        let states = |hostname: &str, now: UnixMillis, unreadable| {
            let facts = Facts { chain: chain.clone(), read: read(), unreadable };
            let mut findings = Findings::of("tls");
            judge(0, &facts, hostname, now, &mut findings);
            findings.into_list().into_iter().map(|finding| (finding.check, finding.state)).collect::<Vec<_>>()
        };
        use super::super::finding::State::{Bad, Careful, Good};
        let (check, default) = ("certificate 0".to_owned(), "default certificate".to_owned());
        let now = system_now();
        assert_eq!(states("mx.example.jp", now, None), [(check.clone(), Good)]);
        assert_eq!(states("edge.example.jp", now, None), [(check.clone(), Good), (default, Careful)]);
        let end = read().ok().unwrap().not_after;
        assert_eq!(states("mx.example.jp", end.minus(REST_MIN / 2), None), [(check.clone(), Careful)]);
        let late = end.plus(Duration::from_secs(1));
        assert_eq!(states("mx.example.jp", late, None), [(check.clone(), Careful)]);
        let unreadable = Some((key.clone(), 7));
        let found = states("mx.example.jp", now, unreadable);
        assert_eq!(found, [("certificate 0 readable".to_owned(), Bad), (check.clone(), Good)]);
        std::fs::write(&key, "no key").unwrap();
        assert_eq!(states("mx.example.jp", now, None), [(check, Bad)]);
    }
}
