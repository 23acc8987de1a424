//! Probes that cut the power or press its button.

use std::time::Duration;

use super::{Bench, Probed, failed, not_run};
use crate::verify::instance::Instance;

impl<'p> Bench<'_, 'p> {
    fn running_mut(&mut self) -> Result<&mut Instance<'p>, String> {
        self.running()?;
        self.instance.as_deref_mut().ok_or_else(|| "no instance".to_owned())
    }

    pub(super) async fn reset(&mut self) -> Probed {
        self.jupyter = None;
        let instance = match self.running_mut() {
            Ok(instance) => instance,
            Err(why) => return not_run(why),
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
        let instance = match self.running_mut() {
            Ok(instance) => instance,
            Err(why) => return not_run(why),
        };
        match instance.press_button(limit).await {
            Ok(()) => Ok(Ok(())),
            Err(error) if self.ends_all(&error) => Err(error),
            Err(error) => {
                failed("the power button".to_owned(), format!("off within {limit:?}"), error.chain().join(": "))
            }
        }
    }
}
