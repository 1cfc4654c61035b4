//! The log: lines on stderr, so that stdout belongs to whoever runs the program.

use tracing_subscriber::{EnvFilter, filter::ParseError, fmt};

use crate::settings::LogFormat;

/// Starts the log with a filter such as `warn` or `stockhold=debug`.
pub(crate) fn start(filter: &str, format: LogFormat) -> Result<(), ParseError> {
    let filter = EnvFilter::builder().parse(filter)?;
    let log = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start in one process (a test) leaves the first log as it is.
    let _ = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    Ok(())
}
