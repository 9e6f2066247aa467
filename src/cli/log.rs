//! The daemon's log: lines on the standard error.
//!
//! They go through a bounded queue: a reader that is stuck costs lines, never an advert. RUST_LOG says what is logged.

use std::fmt;
use std::io::IsTerminal;
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{FmtSpan, Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// Lines that wait to be written: a few for each VIP that may move at once. Room for all of them is taken at the start.
const LINES: usize = 8192;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    #[default]
    Text,
    /// One object a line.
    Json,
}

pub fn start(form: Form) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default().buffered_lines_limit(LINES).finish(std::io::stderr());
    let filter = std::env::var("RUST_LOG").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| {
        let quiet = [
            ("quinn", LevelFilter::WARN),
            ("quinn_proto", LevelFilter::WARN),
            ("chitchat", LevelFilter::ERROR),
        ];
        Targets::new().with_default(LevelFilter::INFO).with_targets(quiet)
    });
    tracing_subscriber::registry().with(lines(form, writer).with_filter(filter)).init();
    guard
}

fn lines<S>(form: Form, writer: NonBlocking) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    // With RUST_LOG=debug, each step of a failover says how long it took.
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_target(false)
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(std::io::stderr().is_terminal());
    match (form, std::env::var_os("JOURNAL_STREAM")) {
        (Form::Json, _) => lines.json().flatten_event(true).boxed(),
        (Form::Text, None) => lines.boxed(),
        (Form::Text, Some(_)) => lines.event_format(ForJournal(plain())).boxed(),
    }
}

/// The journal has its own clock and its own word for the level.
fn plain() -> Format<Full, ()> {
    Format::default().without_time().with_level(false).with_target(false)
}

/// The journal reads the level at the head of a line: sd-daemon(3).
struct ForJournal(Format<Full, ()>);

impl<S, N> FormatEvent<S, N> for ForJournal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        write!(writer, "<{level}>")?;
        self.0.format_event(context, writer, event)
    }
}
