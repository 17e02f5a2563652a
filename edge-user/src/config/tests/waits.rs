//! How long may be waited.

use super::{LEAST, config, printed};

#[test]
fn a_wait_is_a_day_at_most_and_a_warning_where_it_is_shorter_than_the_standard_asks() {
    let limits = "[limits]\nclient_idle_secs = 299\nclient_greet_secs = 9223372036854775807\nprogress_secs = 86401\n\
                  upstream_reply_secs = 1\nupstream_age_secs = 86400\n[tls]\nhandshake_secs = 86401";
    let short = "RFC 5321 (4.5.3.2) asks for at least 300: who is slow and honest has that time";
    let long = |value: u64| format!("{value} is more than a day in seconds, which is 86400");
    let said: Vec<String> = printed(&(LEAST.to_owned() + limits))
        .iter()
        .map(|line| line.splitn(4, ':').nth(3).unwrap_or_default().trim().to_owned())
        .collect();
    assert_eq!(
        said,
        [
            format!("warning: limits.client_idle_secs: {short}"),
            format!("error: limits.client_greet_secs: {}", long(i64::MAX as u64)),
            format!("error: limits.progress_secs: {}", long(86_401)),
            format!("warning: limits.upstream_reply_secs: {short}"),
            format!("error: tls.handshake_secs: {}", long(86_401)),
        ]
    );
    assert_eq!(config(&(LEAST.to_owned() + "[limits]\nprogress_secs = 86400")).limits.progress_secs, 86_400);
}
