//! Somebody at a terminal, whom what is below `cli` can ask without knowing of terminals.

use std::fmt;
use std::pin::Pin;

/// Asks somebody a question of this kind; whatever waits for the answer goes on then.
pub struct Ask<Q>(Box<dyn Fn(Q) -> Answered + Send + Sync>);

type Answered = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<Q> Ask<Q> {
    /// Somebody who is asked by this function.
    pub fn by<F: Future<Output = ()> + Send + 'static>(ask: impl Fn(Q) -> F + Send + Sync + 'static) -> Self {
        Self(Box::new(move |question| Box::pin(ask(question))))
    }

    /// Waits for the answer.
    pub async fn ask(&self, question: Q) {
        (self.0)(question).await;
    }
}

impl<Q> fmt::Debug for Ask<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask").finish_non_exhaustive()
    }
}
