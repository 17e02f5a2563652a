//! What the program says about itself (`tracing`, and `log` from libraries), as lines of the event log.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

use super::event::{Event, Level};
use super::log::EventLog;

/// The environment variable that says which diagnostics are wanted, e.g. `debug` or `edge_user::dataplane=debug`.
const VARIABLE: &str = "BACKSTOP_LOG";

/// Sends diagnostics of the whole process to `log`, from `warn` up unless `BACKSTOP_LOG` says otherwise.
///
/// # Errors
/// `BACKSTOP_LOG` is no filter, or diagnostics go elsewhere already.
pub fn install(log: &EventLog) -> anyhow::Result<()> {
    let filter = match std::env::var(VARIABLE) {
        Ok(wanted) => EnvFilter::try_new(&wanted)
            .map_err(|error| anyhow::anyhow!("{VARIABLE}={wanted}: {error}; try `{VARIABLE}=debug`"))?,
        Err(_) => EnvFilter::new("warn"),
    };
    Registry::default().with(filter).with(ToEventLog { log: log.clone() }).try_init()?;
    Ok(())
}

struct ToEventLog {
    log: EventLog,
}

impl<S: tracing::Subscriber> Layer<S> for ToEventLog {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let level = match *event.metadata().level() {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            tracing::Level::DEBUG | tracing::Level::TRACE => Level::Debug,
        };
        let mut words = Words { message: String::new(), fields: String::new() };
        event.record(&mut words);
        let message = words.message + &words.fields;
        self.log.event(Event::Diagnostic { level, target: event.metadata().target().to_owned(), message });
    }
}

/// Collects the message, then the other fields as `name=value`.
struct Words {
    message: String,
    fields: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            // The bridge from `log` adds where in the source the record was made: the target says enough.
            name if name.starts_with("log.") => Ok(()),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;
    use crate::config::LogFormat;
    use crate::telemetry::Settings;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_diagnostic_becomes_a_line_of_the_same_log() {
        let memory = Memory::default();
        let settings = Settings {
            format: LogFormat::Human,
            hasher: None,
            queue_lines_max: 10,
            clock: || edge_core::time::UnixMillis(0),
        };
        let log = EventLog::start(settings, memory.clone()).unwrap();
        let subscriber = Registry::default().with(ToEventLog { log: log.clone() });
        tracing::subscriber::with_default(subscriber, || tracing::warn!(limit = 3, "too many"));
        assert!(log.flush(Duration::from_secs(60)));
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("WARN edge_user::telemetry::diagnostics::tests: too many limit=3"), "{text}");
    }
}
