//! From YAML to a probe: one key says what is tested, the others how.

use super::probe::{Expect, Login, PamResult, Picture, Presence, Probe, Token, What};
use super::read::{Reader, number, port};
use super::{Level, variables};
use crate::error::Problem;
use crate::template::fields::Fields;
use crate::template::nearest::suggestion;
use crate::template::scalar::{Expected, duration, exit_code, mode};
use crate::template::yaml::Node;

/// The keys that say what is tested.
const KINDS: [&str; 23] = [
    "image",
    "secrets",
    "root_password",
    "clock",
    "file",
    "modes",
    "command",
    "unit",
    "listening",
    "connect",
    "rdp",
    "http",
    "websocket",
    "kernel",
    "terminal",
    "foreign_origin",
    "xsrf",
    "upload",
    "serial",
    "pam",
    "guacamole",
    "power",
    "ports",
];

/// What a desktop's picture has, unless the probe says otherwise: colours, and percents of the commonest.
const COLOURS: usize = 200;
const COMMONEST: u8 = 60;

/// Those that need no boot.
const STATIC: [&str; 5] = ["image", "secrets", "root_password", "file", "modes"];

/// Reads one probe; `known` are the variables that it may name.
pub(super) fn probe(reader: &mut Reader, node: &Node, level: Level, known: &[&str]) -> Option<Probe> {
    let mut fields = Fields::of(node, &mut reader.problems)?;
    let Some((kind, value)) = fields.one_of(&KINDS, &mut reader.problems) else {
        // A slip in its name is told with what was meant.
        fields.finish(&mut reader.problems);
        return None;
    };
    if (level == Level::Static) != STATIC.contains(&kind) && kind != "file" {
        let message = match level {
            Level::Static => format!("`{kind}` needs a boot: it cannot be at the level static"),
            _ => format!("`{kind}` is of the level static"),
        };
        reader.at(value, message);
    }
    let within = fields.get("within");
    let what = what(reader, kind, value, &mut fields, level);
    fields.finish(&mut reader.problems);
    let within = within.and_then(|node| reader.parse(node, duration));
    let what = what?;
    for text in what.texts() {
        for name in variables::names(text) {
            if !known.contains(&name) {
                let problem = Problem::at(node.location(), format!("unknown variable `{name}`"));
                reader.problems.add(match suggestion(name, known.iter().copied()) {
                    Some(hint) => problem.hint(hint),
                    None => problem,
                });
            }
        }
    }
    Some(Probe { what, within, location: node.location() })
}

fn what(reader: &mut Reader, kind: &str, value: &Node, fields: &mut Fields<'_>, level: Level) -> Option<What> {
    Some(match kind {
        "image" => {
            reader.word(value, &[("flat", ())])?;
            What::Image
        }
        "secrets" => {
            reader.word(value, &[("none", ())])?;
            What::Secrets
        }
        "root_password" => {
            reader.word(value, &[("as asked", ())])?;
            What::RootPassword
        }
        "clock" => What::Clock(reader.parse(value, duration)?),
        "xsrf" => {
            reader.word(value, &[("on", ())])?;
            What::JupyterXsrf
        }
        "foreign_origin" => {
            reader.word(value, &[("refused", ())])?;
            What::JupyterOrigin
        }
        "rdp" => {
            reader.word(value, &[("tls", ())])?;
            What::RdpTls { port: port_key(reader, fields)? }
        }
        "file" => file(reader, value, fields, level)?,
        "modes" => {
            reader.word(value, &[("known", ())])?;
            let (privileged, writable) = (fields.get("privileged"), fields.get("writable"));
            What::Modes { privileged: reader.texts(privileged), writable: reader.texts(writable) }
        }
        "command" => command(reader, value, fields)?,
        "unit" => {
            let (active, enabled) = (fields.get("active"), fields.get("enabled"));
            if active.is_none() && enabled.is_none() {
                reader.at(value, "`active` or `enabled` is needed: else nothing is proved");
            }
            What::Unit { name: reader.text(value)?, active: reader.flag(active), enabled: reader.flag(enabled) }
        }
        "listening" => {
            let only = fields.get("only");
            let texts = reader.texts(Some(value));
            let ports = texts.iter().filter_map(|text| parse_port(reader, value, text)).collect();
            What::Listening { ports, only: reader.flag(only).unwrap_or(false) }
        }
        "connect" => {
            let empty = fields.get("empty_connections");
            let empty_connections = empty.and_then(|node| reader.parse(node, number)).unwrap_or(0);
            What::Port { port: reader.parse(value, port)?, empty_connections }
        }
        "http" => http(reader, value, fields)?,
        "websocket" => {
            let (origin, status) = (fields.get("origin"), fields.get("status"));
            What::WebSocket {
                port: port_key(reader, fields)?,
                path: reader.text(value)?,
                origin: origin.and_then(|node| reader.text(node)),
                status: status.and_then(|node| reader.parse(node, number)).unwrap_or(101),
            }
        }
        "kernel" => What::JupyterKernel { run: reader.text(value)?, output: expected(reader, value, fields) },
        "terminal" => What::JupyterTerminal { run: reader.text(value)?, output: expected(reader, value, fields) },
        "upload" => What::JupyterUpload { bytes: reader.parse(value, number)? },
        "serial" => {
            reader.word(value, &[("console", ())])?;
            What::Serial(expected(reader, value, fields))
        }
        "pam" => {
            let login = login(reader, fields);
            What::Pam { service: reader.text(value)?, login: login?, result: result(reader, fields)? }
        }
        "guacamole" => guacamole(reader, value, fields)?,
        "power" => power(reader, value, fields)?,
        "ports" => {
            reader.word(value, &[("answer", ())])?;
            What::Ports { limit: limit(reader, fields)? }
        }
        _ => return None,
    })
}

fn file(reader: &mut Reader, value: &Node, fields: &mut Fields<'_>, level: Level) -> Option<What> {
    let (exists, mode_key) = (fields.get("exists"), fields.get("mode"));
    let (owner, empty, except) = (fields.get("owner"), fields.get("empty"), fields.get("except"));
    let words = [("true", Presence::Required), ("false", Presence::Absent), ("optional", Presence::Optional)];
    let path = reader.text(value)?;
    if level != Level::Static && path.contains(['*', '?', '[']) {
        reader.at(value, "patterns are for the level static: in a guest, `command` finds files");
    }
    Some(What::File {
        path,
        presence: exists.map_or(Some(Presence::Required), |node| reader.word(node, &words))?,
        except: reader.texts(except),
        mode: mode_key.and_then(|node| reader.parse(node, mode)),
        owner: owner.and_then(|node| reader.text(node)),
        empty: reader.flag(empty).unwrap_or(false),
        content: expect(reader, fields),
    })
}

fn command(reader: &mut Reader, value: &Node, fields: &mut Fields<'_>) -> Option<What> {
    let (user, status) = (fields.get("user"), fields.get("status"));
    Some(What::Command {
        run: reader.text(value)?,
        user: user.and_then(|node| reader.text(node)),
        status: status.and_then(|node| reader.parse(node, exit_code)).unwrap_or(0),
        output: expect(reader, fields),
    })
}

fn http(reader: &mut Reader, value: &Node, fields: &mut Fields<'_>) -> Option<What> {
    let (method, headers, status) = (fields.get("method"), fields.get("headers"), fields.get("status"));
    let (header, absent) = (fields.get("header"), fields.get("header_excludes"));
    for node in [header, absent].into_iter().flatten() {
        for pattern in reader.texts(Some(node)) {
            check_pattern(reader, node, &pattern);
        }
    }
    Some(What::Http {
        port: port_key(reader, fields)?,
        path: reader.text(value)?,
        method: method.and_then(|node| reader.text(node)).unwrap_or_else(|| "GET".to_owned()),
        headers: reader.pairs(headers),
        status: statuses(reader, status),
        header: Expect { matches: reader.texts(header), excludes: reader.texts(absent), ..Expect::default() },
        body: expect(reader, fields),
    })
}

/// One status or several; 200 where none is said.
fn statuses(reader: &mut Reader, node: Option<&Node>) -> Vec<u16> {
    let Some(node) = node else { return vec![200] };
    let texts = reader.texts(Some(node));
    let read = texts.iter().filter_map(|text| {
        let status = text.parse().ok().filter(|status| (100..600).contains(status));
        if status.is_none() {
            reader.at(node, format!("expected an HTTP status, found `{text}`"));
        }
        status
    });
    read.collect()
}

fn guacamole(reader: &mut Reader, value: &Node, fields: &mut Fields<'_>) -> Option<What> {
    let words = [("drawn", Some(PamResult::Accepted)), ("refused", Some(PamResult::Refused)), ("args", None)];
    let Some(result) = reader.word(value, &words)? else {
        return Some(What::GuacamoleArguments(expect(reader, fields)));
    };
    let (colours, commonest, join) = (fields.get("colours"), fields.get("commonest"), fields.get("join"));
    Some(What::Guacamole {
        login: login(reader, fields)?,
        result,
        size: (1280, 800),
        picture: Picture {
            colours: colours.and_then(|node| reader.parse(node, number)).unwrap_or(COLOURS),
            commonest: commonest.and_then(|node| reader.parse(node, number)).unwrap_or(COMMONEST),
        },
        join: reader.flag(join).unwrap_or(false),
    })
}

fn power(reader: &mut Reader, value: &Node, fields: &mut Fields<'_>) -> Option<What> {
    let button = reader.word(value, &[("reset", false), ("button", true)])?;
    Some(if button { What::PowerButton { limit: limit(reader, fields)? } } else { What::Reset })
}

fn limit(reader: &mut Reader, fields: &mut Fields<'_>) -> Option<std::time::Duration> {
    let node = fields.required("limit", &mut reader.problems)?;
    reader.parse(node, duration)
}

fn port_key(reader: &mut Reader, fields: &mut Fields<'_>) -> Option<u16> {
    let node = fields.required("port", &mut reader.problems)?;
    reader.parse(node, port)
}

fn login(reader: &mut Reader, fields: &mut Fields<'_>) -> Option<Login> {
    let user = fields.required("user", &mut reader.problems);
    let token = fields.get("token");
    let tokens = [
        ("valid", Token::Valid),
        ("wrong-key", Token::WrongKey),
        ("old", Token::Old),
        ("future", Token::Future),
        ("others", Token::Others),
        ("others-longer", Token::OthersLonger),
        ("password", Token::Password),
    ];
    let token = token.map_or(Some(Token::Valid), |node| reader.word(node, &tokens))?;
    Some(Login { user: reader.text(user?)?, token })
}

fn result(reader: &mut Reader, fields: &mut Fields<'_>) -> Option<PamResult> {
    let node = fields.required("result", &mut reader.problems)?;
    reader.word(node, &[("accepted", PamResult::Accepted), ("refused", PamResult::Refused)])
}

/// As [`expect`], where none proves nothing.
fn expected(reader: &mut Reader, node: &Node, fields: &mut Fields<'_>) -> Expect {
    let expect = expect(reader, fields);
    if expect.is_empty() {
        reader.at(node, "`equals`, `contains`, `matches` or `excludes` is needed: else nothing is proved");
    }
    expect
}

/// Tries a regular expression; values are put in as plain text.
fn check_pattern(reader: &mut Reader, node: &Node, pattern: &str) {
    let names = variables::names(pattern).into_iter();
    let values = names.map(|name| (name.to_owned(), "x".to_owned())).collect();
    if let Err(error) = regex::Regex::new(&variables::fill(pattern, &values, str::to_owned)) {
        reader.at(node, format!("not a regular expression: {error}"));
    }
}

/// The expectations that stand beside a probe's other keys.
fn expect(reader: &mut Reader, fields: &mut Fields<'_>) -> Expect {
    let (equals, contains) = (fields.get("equals"), fields.get("contains"));
    let (matches, excludes) = (fields.get("matches"), fields.get("excludes"));
    for node in [matches, excludes].into_iter().flatten() {
        for pattern in reader.texts(Some(node)) {
            check_pattern(reader, node, &pattern);
        }
    }
    Expect {
        equals: equals.and_then(|node| reader.text(node)),
        contains: reader.texts(contains),
        matches: reader.texts(matches),
        excludes: reader.texts(excludes),
    }
}

fn parse_port(reader: &mut Reader, node: &Node, text: &str) -> Option<u16> {
    match port(text) {
        Ok(port) => Some(port),
        Err(Expected { what, .. }) => {
            reader.at(node, format!("expected {what}, found `{text}`"));
            None
        }
    }
}
