use std::path::Path;

use super::super::yaml::{self, Content};
use super::*;

fn context(lenient: bool) -> Context {
    let mut context = Context::new("visa-base", lenient, true);
    context.set("suite", Value::Plain("trixie".into()), None);
    context.set("root_password", Value::Secret("hunter2".to_owned().into()), None);
    context.set("proxy", Value::Host("http://p:3128".into()), None);
    let missing = Value::Missing { option: "-pp/--pam-public PATH".into(), variable: "VISA_PAM_PUBLIC_KEY".into() };
    context.set("pam_public_key", missing, None);
    context
}

fn render(context: &Context, text: &str) -> Result<Text, Vec<String>> {
    let yaml = format!("x: {}\n", serde_json::to_string(text).unwrap());
    let node = yaml::parse(Path::new("m.yml"), yaml).unwrap().unwrap();
    let Content::Map(entries) = &node.content else { panic!("not a mapping") };
    let mut problems = Problems::default();
    let rendered = context.render(&entries[0].value, text, &mut problems);
    let problems: Vec<String> = problems
        .into_sorted()
        .into_iter()
        .map(|problem| problem.hint.clone().map_or_else(|| problem.to_string(), |hint| format!("{problem} ({hint})")))
        .collect();
    rendered.filter(|_| problems.is_empty()).ok_or(problems)
}

#[test]
fn renders_for_use_and_for_show() {
    let context = context(false);
    let text = render(&context, "{{ suite }} {{ root_password | upper }} {{ proxy }}").unwrap();
    assert_eq!(text.plain(), "trixie HUNTER2 http://p:3128");
    assert_eq!(text.masked(), "trixie ‹SECRET:ROOT_PASSWORD› ‹host:proxy›");
    assert_eq!(text.secrets().iter().collect::<Vec<_>>(), ["root_password"]);
}

#[test]
fn leaves_packers_own_form_alone() {
    let context = context(false);
    for (text, expected) in [
        ("sudo env {{ .Vars }} {{.Path}} # {{ suite }}", "sudo env {{ .Vars }} {{.Path}} # trixie"),
        ("{% raw %}{{ .HTTPIP }}{% endraw %}/{{ suite }}", "{{ .HTTPIP }}/trixie"),
        ("{% raw %}{{ suite }}{% endraw %}", "{{ suite }}"),
        ("<&>'\" {{ suite }}\n", "<&>'\" trixie\n"),
        ("a }} b { c", "a }} b { c"),
    ] {
        assert_eq!(render(&context, text).unwrap().plain(), expected);
    }
}

#[test]
fn undefined_variables_are_placed_and_guarded_ones_are_fine() {
    let context = context(false);
    assert_eq!(
        render(&context, "suite {{ suite }} {{ siute }} {% if colour %}x{% endif %}").unwrap_err(),
        [
            "m.yml:1:26: undefined variable `siute` (did you mean `suite`?)",
            "m.yml:1:41: undefined variable `colour` (set it in templates/visa-base/environment.yml)",
        ]
    );
    assert_eq!(render(&context, "{{ colour | default(value='red') }}").unwrap().plain(), "red");
    assert_eq!(render(&context, "{% if colour is defined %}x{% else %}y{% endif %}").unwrap().plain(), "y");
    assert_eq!(
        render(&context, "{% set v = suite %}{% for c in [1] %}{{ v }}{{ c }}{% endfor %}").unwrap().plain(),
        "trixie1"
    );
}

#[test]
fn values_not_given_are_named_or_stand_in() {
    assert_eq!(
        render(&context(false), "{{ pam_public_key }}").unwrap_err(),
        ["`pam_public_key` is used by template visa-base but was not given \
          (give it with -pp/--pam-public PATH or VISA_PAM_PUBLIC_KEY)"]
    );
    let text = render(&context(true), "{{ pam_public_key }}").unwrap();
    assert_eq!((text.plain(), text.masked()), ("‹secret:pam_public_key›", "‹secret:pam_public_key›"));
    assert!(text.secrets().contains("pam_public_key"));
}

#[test]
fn faults_point_at_the_expression() {
    let context = context(false);
    for (text, expected) in [
        (
            "a {{ suite | default('x') }}",
            "m.yml:1:26: template: found string but expected identifier (tera names arguments: `default(value='x')`)",
        ),
        (
            "{{ suite.upper() }}",
            "m.yml:1:14: template: function calls are only allowed at the first element of a chain \
             (tera has no methods: write `| upper`)",
        ),
        (
            "{{ suite | tojson }}",
            "m.yml:1:16: template: unknown filter `tojson` \
             (tera has no `tojson`: write the JSON around it: `\"{{ name }}\"`)",
        ),
        (
            "{{ suite == 'x' }}",
            "m.yml:1:8: tera prints `true` or `false` here, Jinja2 `True` or `False` \
             (write which is meant: `{{ 'true' if suite == 'x' else 'false' }}`)",
        ),
        ("{{ suite | string }}", "m.yml:1:16: template: unknown filter `string` (tera calls it `str`)"),
        ("{{ now() }}", "m.yml:1:8: template: unknown function `now`"),
        (
            "{{ 'x' if suite }}",
            "m.yml:1:21: template: found `}}` but expected else (tera's `if` needs an `else`: `{{ a if b else '' }}`)",
        ),
        (
            "{{ suite + 'x' }}",
            "m.yml:1:8: template: `+` requires both operands to be numbers, found `string` and `string` (join strings with `~`)",
        ),
        (
            "{{ user `x` }}",
            "m.yml:1:13: template: found string but expected }} \
             (this is Packer's own form: write `{{ name }}` and set `name` in environment.yml)",
        ),
        ("{% if suite %}", "m.yml:1:17: template: unexpected end of input"),
        ("{{ __tera_context }}", "m.yml:1:8: `__tera_context` cannot be used: it would show every secret"),
        ("{% include 'x' %}", "m.yml:1:17: template: unknown template `x`"),
    ] {
        assert_eq!(render(&context, text).unwrap_err(), [expected], "{text}");
    }
}

#[test]
fn a_template_cannot_contain_itself() {
    for text in ["{% include 'text' %}", "{% extends 'text' %}"] {
        let problems = render(&context(false), text).unwrap_err();
        assert!(problems.len() == 1 && problems[0].contains("ircular"), "{problems:?}");
    }
}

#[test]
fn no_message_quotes_a_secret() {
    let problems = render(&context(false), "{{ root_password | int }}").unwrap_err();
    assert!(!problems.join(" ").contains("hunter2"), "{problems:?}");
}
