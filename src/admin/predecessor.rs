//! Gets the figures of the process whose listeners this one has taken over. It no longer has the admin address,
//! so our page of metrics shows them.

use std::time::Duration;

use hyper::body::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::status::Predecessor;
use crate::telemetry::metrics::{self, Figures};

/// The channel that asks the predecessor for its page of metrics. It is closed once the predecessor has ended.
pub type Questions = mpsc::UnboundedSender<oneshot::Sender<Bytes>>;

/// How long a scrape waits for the predecessor's page.
pub const FIGURES_TIMEOUT: Duration = Duration::from_millis(500);

/// Whether there is a predecessor to ask.
#[derive(Clone, Default)]
pub(super) enum Respondent {
    /// There is no predecessor.
    #[default]
    None,
    /// It does not know yet that this process accepts.
    Awaited,
    /// It can be asked.
    Linked(Questions),
}

impl Respondent {
    /// The predecessor as the status shows it.
    pub(super) fn shown(&self) -> Predecessor {
        match self {
            Self::Linked(questions) if !questions.is_closed() => Predecessor::Draining,
            Self::None | Self::Linked(_) => Predecessor::None,
            Self::Awaited => Predecessor::Awaited,
        }
    }

    /// Asks it for its page, and waits at most [`FIGURES_TIMEOUT`].
    pub(super) async fn ask(&self) -> Reply {
        match self {
            Self::None => Reply::Nobody,
            Self::Awaited => Reply::Nothing,
            Self::Linked(questions) => ask(questions).await,
        }
    }
}

/// The answer of a predecessor.
pub(super) enum Reply {
    /// There is no predecessor.
    Nobody,
    /// It did not answer in time.
    Nothing,
    /// Its page.
    Page(Bytes),
}

async fn ask(questions: &Questions) -> Reply {
    let (asker, answer) = oneshot::channel();
    // If it has ended, this fails, and so does the wait for the answer.
    drop(questions.send(asker));
    match timeout(FIGURES_TIMEOUT, answer).await {
        Ok(Ok(page)) => Reply::Page(page),
        Ok(Err(_)) | Err(_) if questions.is_closed() => Reply::Nobody,
        Ok(Err(_)) | Err(_) => Reply::Nothing,
    }
}

impl Reply {
    /// The figures that our page can show.
    pub(super) fn figures(self) -> metrics::PredecessorFigures {
        let figures = match &self {
            Self::Nobody => return metrics::PredecessorFigures::None,
            Self::Nothing => None,
            Self::Page(page) => str::from_utf8(page).ok().and_then(Figures::parse),
        };
        if figures.is_none() {
            tracing::debug!(
                "the predecessor does not tell its figures: the page comes without them"
            );
        }
        figures.map_or(
            metrics::PredecessorFigures::Silent,
            metrics::PredecessorFigures::Known,
        )
    }
}
