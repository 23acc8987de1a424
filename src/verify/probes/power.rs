//! Probes that cut the power or press its button.

use std::time::Duration;

use super::{Bench, Probed, failed, not_run};

impl Bench<'_, '_> {
    pub(super) async fn reset(&mut self) -> Probed {
        self.jupyter = None;
        let Some(instance) = self.instance.as_deref_mut().filter(|instance| instance.is_on()) else {
            return not_run("the instance is off");
        };
        instance.reset().await?;
        if instance.guest.is_none() {
            let why = instance.no_guest.clone();
            return failed("a hard reset".to_owned(), "the instance is up again".to_owned(), why);
        }
        Ok(Ok(()))
    }

    pub(super) async fn power_button(&mut self, limit: Duration) -> Probed {
        self.jupyter = None;
        let Some(instance) = self.instance.as_deref_mut().filter(|instance| instance.is_on()) else {
            return not_run("the instance is off");
        };
        match instance.press_button(limit).await {
            Ok(_) => Ok(Ok(())),
            Err(error) if self.ends_all(&error) => Err(error),
            Err(error) => {
                failed("the power button".to_owned(), format!("off within {limit:?}"), error.chain().join(": "))
            }
        }
    }
}
