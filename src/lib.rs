//! Builds, proves and publishes VM images for research platforms such as VISA.

pub mod error;
pub mod event;
pub mod pam_key;
pub mod pem;
pub mod preflight;
pub mod process;
pub mod template;
