//! Builds, proves and publishes VM images for research platforms such as VISA.

pub mod error;
pub mod event;
pub mod guest;
pub mod lines;
pub mod machine;
pub mod process;
pub mod provision;
pub mod template;
