//! What was begun and not brought to its end is taken back: by the run itself, or by the next one.

use super::cloud::Cloud;
use super::failure::Failure;
use super::journal;
use super::lineage::State;
use super::publish::Plan;
use crate::cache::Cache;
use crate::error::Result;
use crate::event::Events;

impl Cloud {
    /// Deletes what was begun, without regard to the signal that may have ended it.
    pub(super) async fn take_back(&self, id: &str) -> Result<()> {
        let free = self.uncancelled();
        let explain = |failure: Failure| failure.explain(&format!("deleting the image {id}, which is not whole"));
        free.remove_test_server(id).await.map_err(explain)?;
        free.delete_image(id).await.map_err(explain)
    }

    /// Takes away what runs on this host that are gone have left in this project, but for what `plans`
    /// use: an upload whose last answer was lost is whole.
    ///
    /// # Errors
    /// The cloud refuses or is not reachable.
    pub async fn clean_up(&self, plans: &[Plan<'_>], cache: &Cache, events: &Events) -> Result<()> {
        for left in journal::leftovers(cache, self.auth_url(), &self.project().id)? {
            let id = left.begun.image.clone();
            match plans.iter().find_map(|plan| plan.there.as_ref().filter(|image| image.id == id)) {
                // The record goes when the image is taken over.
                Some(image) if image.state() == State::Uploading => continue,
                Some(_) => {
                    left.done();
                    continue;
                }
                None => {}
            }
            match self.remove_leftover(&id).await {
                Ok(true) => {
                    events
                        .info(None, format!("removed the image {id}, which an earlier run that was killed had begun"));
                    left.done();
                }
                Ok(false) => left.done(),
                Err(Failure::Ours(error)) => return Err(error),
                // That is no reason to publish nothing.
                Err(failure) => {
                    let error = failure.explain(&format!("removing {id}, which an earlier run has left"));
                    events.warn(None, format!("{}; the next upload tries it again", error.chain().join(": ")));
                }
            }
        }
        Ok(())
    }

    /// Whether there was an image to remove.
    async fn remove_leftover(&self, id: &str) -> std::result::Result<bool, Failure> {
        self.remove_test_server(id).await?;
        match self.image(id).await? {
            // What is not `uploading` was brought to its end, but for the record.
            Some(image) if image.state() == State::Uploading => self.delete_image(id).await.map(|()| true),
            _ => Ok(false),
        }
    }
}
