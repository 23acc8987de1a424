//! Builds, proves and publishes VM images for research platforms such as VISA.

pub mod cache;
pub mod cli;
pub mod container;
pub mod credentials;
pub mod engine;
pub mod error;
pub mod event;
pub mod glance;
pub mod guest;
pub mod image;
mod lines;
pub mod machine;
mod os_release;
pub mod pam_key;
pub mod pem;
pub mod pipeline;
pub mod plan;
pub mod preflight;
pub mod process;
pub mod provision;
pub mod report;
pub mod source;
pub mod template;
pub mod verify;
