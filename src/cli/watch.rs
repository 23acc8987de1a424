//! `--watch`: the live page of a run.

use super::signals::Signals;
use crate::error::Result;
use crate::live::{Ending, Live};

/// A live page, where it is wanted.
///
/// # Errors
/// It cannot listen (kind host).
pub(super) async fn begin(wanted: bool) -> Result<Option<Live>> {
    Ok(if wanted { Some(Live::bind().await?) } else { None })
}

/// Tells a live page how the run ended.
pub(super) async fn end(live: Option<Live>, result: &Result<()>, signals: &Signals) {
    let Some(live) = live else { return };
    let ending = match result {
        Ok(()) => Ending::Done,
        Err(_) if signals.received().is_some() => Ending::Stopped,
        Err(error) => Ending::Failed(error),
    };
    live.finish(ending).await;
}
