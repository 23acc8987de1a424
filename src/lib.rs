//! Builds, proves and publishes VM images for research platforms such as VISA.

pub mod error;
pub mod event;
pub mod process;
pub mod source;
pub mod template;
