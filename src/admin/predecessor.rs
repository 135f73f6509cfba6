//! The figures of the process whose listeners this one has taken over. It has no admin address any more, so
//! our page of metrics shows them.

use std::time::Duration;

use hyper::body::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::telemetry::metrics::{self, Figures};

/// The channel that asks the predecessor for its page of metrics. It is closed once the predecessor has ended.
pub type Questions = mpsc::UnboundedSender<oneshot::Sender<Bytes>>;

/// How long a scrape waits for the predecessor's page.
pub const FIGURES_TIMEOUT: Duration = Duration::from_millis(500);

/// Whether there is a predecessor to ask.
#[derive(Clone, Default)]
pub(super) enum Respondent {
    /// There is none.
    #[default]
    None,
    /// It does not know yet that we accept.
    Awaited,
    /// It can be asked.
    Linked(Questions),
}

impl Respondent {
    /// Asks it for its page, and waits for that within the limit of time.
    pub(super) async fn ask(&self) -> Reply {
        match self {
            Self::None => Reply::Nobody,
            Self::Awaited => Reply::Nothing,
            Self::Linked(questions) => ask(questions).await,
        }
    }
}

/// What a predecessor has answered.
pub(super) enum Reply {
    /// There is none.
    Nobody,
    /// Nothing, until it was time.
    Nothing,
    /// Its page.
    Page(Bytes),
}

async fn ask(questions: &Questions) -> Reply {
    let (asker, answer) = oneshot::channel();
    // If it has ended, nobody takes the question, and the answer does not come.
    drop(questions.send(asker));
    match timeout(FIGURES_TIMEOUT, answer).await {
        Ok(Ok(page)) => Reply::Page(page),
        Ok(Err(_)) | Err(_) if questions.is_closed() => Reply::Nobody,
        Ok(Err(_)) | Err(_) => Reply::Nothing,
    }
}

impl Reply {
    /// What our page can show of it.
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
