//! What the handshake tells guacd: the screen and the connection's parameters.

use std::borrow::Cow;

use secrecy::{ExposeSecret, SecretString};

/// The newest protocol version that VISA's library knows (guacamole-common 1.5.5).
const LATEST: [u32; 3] = [1, 5, 0];

/// The client's screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// Width, pixels.
    pub width: u32,
    /// Height, pixels.
    pub height: u32,
    /// Resolution, dots per inch.
    pub dpi: u32,
}

/// Which desktop guacd shall open, and for whom. All that is not here goes as an empty value, as VISA
/// does it.
#[derive(Debug, Clone)]
pub struct Login {
    /// The RDP server as guacd reaches it; VISA gives the guest's own address.
    pub hostname: String,
    /// Its port.
    pub port: u16,
    /// The user; VISA's owner of the instance.
    pub username: String,
    /// The password; VISA gives a signed token.
    pub password: SecretString,
    /// A keyboard layout, for example `en-us-qwerty`.
    pub server_layout: String,
    /// The desktop's size.
    pub screen: Screen,
    /// Bits per pixel; guacd with the graphics pipeline takes 32 whatever is asked for.
    pub colour_depth: u8,
    /// Whether guacd takes any certificate.
    pub ignore_cert: bool,
    /// Whether guacd may send PNG only. VISA leaves `force-lossless` empty; guacd then sends quickly
    /// changing regions as JPEG although the client offered only PNG, and the canvas cannot draw those.
    pub lossless: bool,
}

impl Login {
    /// A login as VISA does it, but with `lossless`.
    pub fn new(hostname: &str, port: u16, username: &str, password: SecretString, screen: Screen) -> Self {
        Self {
            hostname: hostname.to_owned(),
            port,
            username: username.to_owned(),
            password,
            server_layout: "en-us-qwerty".to_owned(),
            screen,
            colour_depth: 16,
            ignore_cert: true,
            lossless: true,
        }
    }

    /// The value of guacd's argument `name`, empty for one that VISA does not give.
    pub(super) fn value(&self, name: &str) -> Cow<'_, str> {
        match name {
            "hostname" => (&*self.hostname).into(),
            "port" => self.port.to_string().into(),
            "username" => (&*self.username).into(),
            "password" => self.password.expose_secret().into(),
            "server-layout" => (&*self.server_layout).into(),
            "color-depth" => self.colour_depth.to_string().into(),
            "ignore-cert" if self.ignore_cert => "true".into(),
            "force-lossless" if self.lossless => "true".into(),
            _ => "".into(),
        }
    }
}

/// The answer to `argument` if it is a protocol version (`VERSION_1_5_0`): the newest that both know.
pub(super) fn version(argument: &str) -> Option<String> {
    let mut parts = argument.strip_prefix("VERSION_")?.split('_').map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let [major, minor, patch] = [major, minor, patch].min(LATEST);
    Some(format!("VERSION_{major}_{minor}_{patch}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_negotiated_down() {
        for (argument, answer) in [
            ("VERSION_1_3_0", Some("VERSION_1_3_0")),
            ("VERSION_1_5_0", Some("VERSION_1_5_0")),
            ("VERSION_1_6_0", Some("VERSION_1_5_0")),
            ("VERSION_2_0_0", Some("VERSION_1_5_0")),
            ("VERSION_1_5", None),
            ("VERSION_1_5_0_1", None),
            ("VERSION_x_5_0", None),
            ("hostname", None),
        ] {
            assert_eq!(version(argument).as_deref(), answer, "{argument}");
        }
    }

    #[test]
    fn the_password_is_not_shown() {
        let screen = Screen { width: 1280, height: 1024, dpi: 96 };
        let login = Login::new("10.0.0.5", 3389, "jo", SecretString::from("token-x"), screen);
        assert!(!format!("{login:?}").contains("token-x"));
        assert_eq!(login.value("password"), "token-x");
        assert_eq!(login.value("security"), "");
    }
}
