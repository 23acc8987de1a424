//! What Packer makes of a project, an import makes of it, too; or it says so.

use std::fs;

use super::{Request, import};

/// A folder's project, imported: what was written, or all faults.
fn imported(files: &[(&str, &str)], variables: &[&str]) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let output = folder.path().join("new");
    let request = Request {
        path: folder.path().to_owned(),
        output: output.clone(),
        variables: variables.iter().map(|&variable| variable.to_owned()).collect(),
        ..Request::default()
    };
    let imported = import(&request).map_err(|error| {
        let shown = |problem: &crate::error::Problem| problem.to_string();
        let all: Vec<_> = error.problem_list().iter().map(shown).collect();
        all.join("\n").replace(&format!("{}/", folder.path().display()), "")
    })?;
    let read = |name: &std::path::PathBuf| {
        format!("--- {}\n{}", name.display(), fs::read_to_string(output.join(name)).unwrap())
    };
    Ok(imported.files.iter().map(read).collect())
}

const SOURCE: &str = "source \"qemu\" \"a\" {\n  iso_checksum = \"none\"\n  iso_url = \"http://h/x.iso\"\n  \
                      ssh_username = \"root\"\n}\n";

/// A build of one step with these lines, and what else the project has.
fn step(lines: &str, more: &str) -> String {
    format!("build {{\n  sources = [\"qemu.a\"]\n  provisioner \"shell\" {{\n{lines}\n  }}\n}}\n{SOURCE}{more}\n")
}

/// The commands of all steps, joined by ` | `.
fn commands(written: &str) -> String {
    let manifest = written.split("--- ").find_map(|file| file.split_once("manifest.yml\n")).unwrap().1;
    let manifest: serde_yaml::Value = serde_yaml::from_str(manifest).unwrap();
    let steps = manifest["packer"]["provisioners"].as_sequence().unwrap();
    let inline = steps.iter().flat_map(|step| step["inline"].as_sequence().unwrap());
    inline.map(|command| command.as_str().unwrap()).collect::<Vec<_>>().join(" | ")
}

/// What the expression is, a list of commands; or what is wrong.
fn value(expression: &str, more: &str, variables: &[&str]) -> Result<String, String> {
    let text = step(&format!("    inline = {expression}"), more);
    imported(&[("a.pkr.hcl", &text)], variables).map(|written| commands(&written))
}

#[track_caller]
fn is(expression: &str, wanted: &str) {
    assert_eq!(value(expression, "", &[]).as_deref(), Ok(wanted), "{expression}");
}

#[track_caller]
fn fails(result: Result<String, String>, part: &str) {
    let problems = result.unwrap_err();
    assert!(problems.contains(part), "{part} is not in\n{problems}");
}

fn json(more: &str) -> Result<String, String> {
    let builder = "{\"type\": \"qemu\", \"iso_url\": \"http://h/x.iso\", \"iso_checksum\": \"none\", \
                   \"ssh_username\": \"root\", \"name\": \"a\"}";
    imported(&[("a.json", &format!("{{\n\"builders\": [{builder}],\n{more}\n}}"))], &[])
}

#[test]
fn sections_of_json_have_their_shapes() {
    let shell = "{\"type\": \"shell\", \"inline\": [\"echo \\ud83d\\ude00 \\\\ud83d\"]}";
    let written = json(&format!("\"error-cleanup-provisioner\": {shell}")).unwrap();
    assert!(written.contains("error-cleanup-provisioner:\n"), "{written}");
    assert!(written.contains("echo 😀 \\\\ud83d"), "{written}");
    for key in ["provisioners", "post-processors"] {
        fails(json(&format!("\"{key}\": {shell}")), "a.json:3:");
        fails(json(&format!("\"{key}\": {shell}")), "expected a list, found a mapping");
    }
    let secret = "\"variables\": {\"pw\": \"hush\"}, \"sensitive-variables\": ";
    fails(json(&format!("{secret}\"pw\"")), "expected a list, found ");
    fails(json(&format!("{secret}[[\"pw\"]]")), "expected a string, found a list");
    fails(json(&format!("\"error-cleanup-provisioner\": [{shell}]")), "expected a mapping, found a list");
}

#[test]
fn variables_have_the_types_of_their_defaults() {
    let more = "variable \"desktop\" {\n  default = false\n}\nvariable \"pkgs\" {\n  default = [\"a\"]\n}\n\
                variables {\n  cpus = 2\n}";
    let given = ["desktop=true", "cpus=4", "pkgs=[\"b\", \"c\"]"];
    let expression = "concat(var.pkgs, [var.desktop == true ? \"yes!\" : \"no!\", var.cpus == 4 ? \"four\" : \"\"])";
    assert_eq!(value(expression, more, &given).as_deref(), Ok("b | c | yes! | four"));
    assert_eq!(value(expression, more, &[]).as_deref(), Ok("a | no! | "));
    fails(value(expression, more, &["cpus=many"]), "expected a number, found `many`");
    fails(value(expression, more, &["desktop=maybe"]), "expected a boolean, found `maybe`");
}

#[test]
fn types_reach_into_collections() {
    let typed = |kind: &str, default: &str| format!("variable \"x\" {{\n  type = {kind}\n  default = {default}\n}}");
    let on = |kind: &str, default: &str, expression: &str| value(expression, &typed(kind, default), &[]);
    assert_eq!(on("map(string)", "{a = true}", "[var.x.a == \"true\" ? \"text\" : \"no\"]").as_deref(), Ok("text"));
    assert_eq!(on("object({a = number})", "{a = \"1\"}", "[\"${var.x.a + 1}x\"]").as_deref(), Ok("2x"));
    let keys = "[for k, v in var.x : \"${k}-${v}\"]";
    assert_eq!(on("set(string)", "[\"z\", \"y\", \"z\"]", keys).as_deref(), Ok("y-y | z-z"));
    fails(on("list(number)", "[\"x\"]", "var.x"), "a.pkr.hcl:13:10: expected a number, found `x`");
    fails(on("strng", "\"x\"", "[var.x]"), "unknown type `strng`");
    is("[for k, v in toset([\"b\", \"a\"]) : \"${k}-${v}\"]", "a-a | b-b");
    let each = "}\n  dynamic \"provisioner\" {\n    for_each = toset([\"b\"])\n    labels = [\"shell\"]\n    content {\n      \
                inline = [\"key ${provisioner.key}\"]\n    }";
    let written = imported(&[("a.pkr.hcl", &step(&format!("    inline = [\"x\"]\n  {each}"), ""))], &[]).unwrap();
    assert_eq!(commands(&written), "x | key b");
}

#[test]
fn what_an_import_refuses_is_not_tried() {
    is("[try({}.a, \"else\"), can({}.a) ? \"can\" : \"cannot\"]", "else | cannot");
    let secret = "variable \"pw\" {\n  sensitive = true\n  default = \"hush\"\n}\n\
                  variable \"set\" {\n  sensitive = true\n  type = set(string)\n  default = [\"hush\"]\n}\n\
                  variable \"late\" {\n  default = env(\"IMPORT_NOBODY_SETS\")\n}";
    for (expression, part) in [
        ("cidrhost(\"10.0.0.0/8\", 1)", "unknown function `cidrhost`"),
        ("vault(\"a\", \"b\")", "`vault` cannot be carried out"),
        ("upper(var.pw)", "the secret `pw` would be"),
        ("join(\"\", var.set)", "the secret `set` would be"),
        ("upper(var.late)", "`IMPORT_NOBODY_SETS` of the process environment is not set"),
        ("join(\"\", range(100000))", "a list of more than 10000 numbers"),
        ("build.ID", "is known while Packer builds"),
    ] {
        fails(value(&format!("[try({expression}, \"x\")]"), secret, &[]), part);
        fails(value(&format!("[can({expression}) ? \"a\" : \"b\"]"), secret, &[]), part);
    }
}

#[test]
fn functions_are_packers() {
    is("[alltrue([true, \"true\"]) && !anytrue([false]) && alltrue([]) ? \"a\" : \"b\"]", "a");
    is("[for pair in setproduct([\"a\", \"b\"], [\"c\"]) : join(\"-\", pair)]", "a-c | b-c");
    is("formatlist(\"%s-%s-%s\", [\"a\", \"b\"], \"x\", [\"c\", \"d\"])", "a-x-c | b-x-d");
    is("[title(\"debian-bookworm\")]", "Debian-Bookworm");
    is("[\"${0.1 + 0.2}x\"]", "0.3x");
    fails(value("formatlist(\"%s%s\", [\"a\"], [])", "", &[]), "the lists have 1 and 0 elements");
    fails(value("[upper()]", "", &[]), "upper");
    fails(value("[strlen(\"x\")]", "", &[]), "unknown function `strlen`");
    fails(value("[substr(\"x\")]", "", &[]), "`substr` does not take these arguments");
    fails(value("[\"${9007199254740993}\"]", "", &[]), "is too large");
    fails(value("[\"${pow(2, 60)}\"]", "", &[]), "is too large");
}

#[test]
fn yaml_is_quoted_as_packers() {
    let text = "[yamlencode({on = \"yes\", ports = [\"22:22\", 1, {a = \"b\", c = []}], m = {d = null, e = true}})]";
    let wanted = "\"m\":\n  \"d\": null\n  \"e\": true\n\"on\": \"yes\"\n\"ports\":\n- \"22:22\"\n- 1\n- \"a\": \"b\"\n  \"c\": []\n";
    is(text, wanted);
}

#[test]
fn builds_are_named_as_packers() {
    let text = format!(
        "build {{\n  name = \"site\"\n  source \"qemu.a\" {{\n    name = \"web\"\n  }}\n  provisioner \"shell\" {{\n    \
         inline = [source.name, source.type, build.name, \"{{{{build_name}}}}\"]\n  }}\n}}\n{SOURCE}"
    );
    let written = imported(&[("a.pkr.hcl", &text)], &[]).unwrap();
    assert!(written.contains("templates/web/"), "{written}");
    assert_eq!(commands(&written), "web | qemu | site | a");
    fails(imported(&[("a.pkr.hcl", &text.replace("source.type", "build.type"))], &[]), "there is no `build.type`");
    let unknown = text.replace("  name = \"site\"\n", "  name = \"site\"\n  sorces = []\n");
    fails(imported(&[("a.pkr.hcl", &unknown)], &[]), "a.pkr.hcl:3:3: unknown option `sorces` of a build");
}

#[test]
fn steps_are_for_the_builds_that_packer_means() {
    let run = |option: &str| {
        let text = step(&format!("    inline = [\"x\"]\n    {option}"), "");
        imported(&[("a.pkr.hcl", &text)], &[]).map(|written| written.contains("[\"x\"]") || written.contains("[x]"))
    };
    assert_eq!(run("only = [\"qemu.a\"]"), Ok(true));
    assert_eq!(run("only = [\"a\"]"), Ok(false));
    assert_eq!(run("except = [\"a\"]"), Ok(true));
    assert_eq!(run("except = [\"qemu.a\"]"), Ok(false));
    assert_eq!(run("override = { \"qemu.a\" = { inline = [\"y\"] } }"), Ok(true));
    assert_eq!(run("override = { a = { inline = [\"y\"] } }"), Ok(false));
    for (option, part) in [
        ("only = \"qemu.a\"", "`only`: expected a list, found a string"),
        ("override = []", "`override`: expected a mapping, found a list"),
    ] {
        assert!(run(option).unwrap_err().contains(part), "{option}");
    }
}

#[test]
fn files_that_are_not_read_are_told() {
    let template = step("    inline = [\"x\"]", "");
    let found = imported(&[("a.pkr.hcl", &template), ("b.pkr.json", "{}"), ("c.pkr.json", "{}")], &[]);
    fails(found.clone(), "b.pkr.json: HCL in the form of JSON is not read");
    fails(found, "c.pkr.json: HCL in the form of JSON is not read");
    fails(imported(&[("b.pkr.json", "{}")], &[]), "b.pkr.json: HCL in the form of JSON is not read");
    fails(imported(&[("template.json", "{\n\"builders\": [,]}")], &[]), "template.json:2:14: JSON: expected value");
    fails(imported(&[("data.json", "{}")], &[]), "has no template of Packer's");
}

#[test]
fn a_disk_stays_as_large_as_it_is_only_where_that_is_done() {
    let text = step("    inline = [\"x\"]", "")
        .replace("  ssh_username", "  disk_image = true\n  skip_resize_disk = true\n  ssh_username");
    fails(imported(&[("a.pkr.hcl", &text)], &[]), "`skip_resize_disk`");
    imported(&[("a.pkr.hcl", &text.replace("disk = true", "disk = false"))], &[]).unwrap();
}

#[test]
fn many_lines_take_no_time() {
    use std::fmt::Write as _;
    let mut locals = String::from("locals {\n");
    for at in 0..60_000 {
        writeln!(locals, "  l{at} = 1").unwrap();
    }
    let text = step("    inline = [\"${local.l59999}x\"]", &format!("{locals}}}"));
    let begin = std::time::Instant::now();
    let written = imported(&[("a.pkr.hcl", &text)], &[]).unwrap();
    assert!(written.contains("1x") && begin.elapsed().as_secs() < 30, "{:?}", begin.elapsed());
}
