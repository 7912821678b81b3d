//! Every request on record.

mod event;
mod json;
mod logger;
mod reader;
mod sink;

pub use event::{LogAction, LogEvent, LogFormat};
pub use logger::Logger;
pub use reader::{LogReader, read_log};
pub use sink::{LogCall, LogSink};
