//! What a build's guest is given of the host's ways to the network.

use std::collections::BTreeSet;

use secrecy::{ExposeSecret, SecretString};

use crate::credentials;
use crate::preflight::pip::Index;
use crate::preflight::reach::Proxy;
use crate::source::apt::Acquire;
use crate::template::Text;

/// Debian's store of certificate authorities, where `session.sh` puts the build host's own.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The host as the guest sees it on QEMU's user network (qemu(1), `-netdev user`, `host=`).
const HOST: &str = "10.0.2.2";

/// The environment of every shell step.
pub(super) fn environment(
    proxy: &Proxy,
    pip_index: Option<&Index>,
    npm_registry: Option<&Index>,
) -> Vec<(String, Text)> {
    let mut variables: Vec<(&str, String)> = vec![
        ("DEBIAN_FRONTEND", "noninteractive".to_owned()),
        ("LC_ALL", "C.UTF-8".to_owned()),
        ("PIP_DISABLE_PIP_VERSION_CHECK", "1".to_owned()),
        ("PIP_ROOT_USER_ACTION", "ignore".to_owned()),
    ];
    // Programs that bring their own certificate authorities are pointed at the system's.
    for name in ["CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"] {
        variables.push((name, CERTIFICATES.to_owned()));
    }
    if let Some(url) = &proxy.url {
        let url = seen_by_guest(url);
        for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
            variables.push((name, url.clone()));
        }
        let direct = proxy.no_proxy.as_deref().unwrap_or("localhost,127.0.0.1");
        variables.push(("no_proxy", direct.to_owned()));
        variables.push(("NO_PROXY", direct.to_owned()));
    }
    if let Some(index) = pip_index {
        variables.push(("PIP_INDEX_URL", seen_by_guest(index.url.expose_secret())));
    }
    if let Some(registry) = npm_registry {
        variables.push(("npm_config_registry", seen_by_guest(registry.url.expose_secret())));
    }
    variables.into_iter().map(|(name, value)| (name.to_owned(), text(name, value))).collect()
}

/// A variable's value; one with credentials in it is a secret, which keeps it off command lines.
fn text(name: &str, value: String) -> Text {
    if credentials::strip(&value) == value {
        return Text::public(value);
    }
    Text::new(credentials::strip(&value), value, BTreeSet::from([name.to_owned()]))
}

/// apt's settings for the build: how the host's own apt reaches its mirrors, the build's proxy
/// over that.
pub(super) fn apt_configuration(proxy: &Proxy, host: &Acquire) -> SecretString {
    let mut text = String::from("Acquire::Retries \"3\";\nDpkg::Use-Pty \"0\";\n");
    for line in host.configuration.expose_secret().lines() {
        // Files of the host (certificates, say) are not in the guest.
        let names_a_file = line.split_once(" \"").is_some_and(|(_, value)| value.starts_with('/'));
        if !names_a_file {
            text.push_str(&seen_by_guest(line));
            text.push('\n');
        }
    }
    if let Some(url) = &proxy.url {
        let url = seen_by_guest(url);
        text.push_str(&format!("Acquire::http::Proxy \"{url}\";\nAcquire::https::Proxy \"{url}\";\n"));
        for host in proxy.no_proxy.as_deref().unwrap_or_default().split(',').map(str::trim) {
            // apt.conf(5): a proxy for one host; it knows no suffixes or networks.
            if !host.is_empty() && !host.contains(['*', '/']) && !host.starts_with('.') {
                text.push_str(&format!("Acquire::http::Proxy::{host} \"DIRECT\";\n"));
                text.push_str(&format!("Acquire::https::Proxy::{host} \"DIRECT\";\n"));
            }
        }
    }
    text.into()
}

/// `text` with URLs of the host's loopback address turned into the address that the guest reaches it by.
fn seen_by_guest(text: &str) -> String {
    ["://localhost:", "://127.0.0.1:", "@localhost:", "@127.0.0.1:"].iter().fold(text.to_owned(), |text, name| {
        let separator = if name.starts_with('@') { "@" } else { "://" };
        text.replace(name, &format!("{separator}{HOST}:"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_on_the_hosts_loopback_is_reached_through_qemu() {
        assert_eq!(seen_by_guest("http://127.0.0.1:3128/"), "http://10.0.2.2:3128/");
        assert_eq!(seen_by_guest("http://u:p@localhost:3128"), "http://u:p@10.0.2.2:3128");
        assert_eq!(seen_by_guest("http://proxy.example.org:3128"), "http://proxy.example.org:3128");
    }

    #[test]
    fn a_proxy_is_given_in_both_cases_and_only_when_there_is_one() {
        let names = |proxy: &Proxy| -> Vec<String> {
            environment(proxy, None, None)
                .into_iter()
                .map(|(name, _)| name)
                .filter(|name| name.contains("roxy"))
                .collect()
        };
        assert!(names(&Proxy::default()).is_empty());
        let proxy = Proxy { url: Some("http://p:1".to_owned()), no_proxy: None };
        assert_eq!(names(&proxy), ["http_proxy", "https_proxy", "no_proxy"]);
    }

    #[test]
    fn credentials_make_a_variable_a_secret() {
        let proxy = Proxy { url: Some("http://u:p@p:1".to_owned()), no_proxy: None };
        let (_, value) = environment(&proxy, None, None).into_iter().find(|(name, _)| name == "http_proxy").unwrap();
        assert_eq!((value.masked(), value.plain()), ("http://p:1", "http://u:p@p:1"));
        assert!(!value.secrets().is_empty());

        let index = |url: &str| Index { url: url.into(), origin: String::new() };
        let (pip, npm) = (index("https://u:p@pip.example/"), index("http://u:p@localhost:4873/"));
        let variables = environment(&Proxy::default(), Some(&pip), Some(&npm));
        for (name, masked, plain) in [
            ("PIP_INDEX_URL", "https://pip.example/", "https://u:p@pip.example/"),
            ("npm_config_registry", "http://10.0.2.2:4873/", "http://u:p@10.0.2.2:4873/"),
        ] {
            let (_, value) = variables.iter().find(|(found, _)| found == name).unwrap();
            assert_eq!((value.masked(), value.plain()), (masked, plain));
            assert!(!value.secrets().is_empty());
        }
    }

    #[test]
    fn apt_takes_the_builds_proxy_and_its_exceptions() {
        let proxy =
            Proxy { url: Some("http://p:1".to_owned()), no_proxy: Some("a.example.org,.b,10.0.0.0/8".to_owned()) };
        let text = apt_configuration(&proxy, &Acquire::default());
        let text = text.expose_secret();
        assert!(text.contains("Acquire::http::Proxy \"http://p:1\";"), "{text}");
        assert!(text.contains("Acquire::https::Proxy::a.example.org \"DIRECT\";"), "{text}");
        assert!(!text.contains("10.0.0.0"), "{text}");
    }
}
