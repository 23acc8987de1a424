//! What a browser behind the platform's proxy does, spoken to a guest directly.

#[cfg(test)]
pub(in crate::verify) mod fake;
pub mod http;
pub mod jupyter;
pub mod websocket;
