//! Problems on their way to one report.

use std::collections::BTreeMap;

use crate::error::{Error, Kind, Location, Problem};

/// Collects problems, so that all of them are reported at once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Problems {
    list: Vec<Problem>,
    missing: BTreeMap<String, Missing>,
}

/// A value that was not given, and who needs it.
#[derive(Debug, Clone)]
struct Missing {
    option: String,
    variable: String,
    templates: Vec<String>,
}

impl Problems {
    pub(crate) fn add(&mut self, problem: Problem) {
        self.list.push(problem);
    }

    pub(crate) fn at(&mut self, location: Location, message: impl Into<String>) {
        self.add(Problem::at(location, message));
    }

    pub(crate) fn extend(&mut self, problems: impl IntoIterator<Item = Problem>) {
        self.list.extend(problems);
    }

    /// Notes that `template` uses a value that was not given; it becomes one problem for all templates.
    pub(crate) fn missing(&mut self, name: &str, option: &str, variable: &str, template: &str) {
        let missing = self.missing.entry(name.to_owned()).or_insert_with(|| Missing {
            option: option.to_owned(),
            variable: variable.to_owned(),
            templates: Vec::new(),
        });
        if !missing.templates.iter().any(|known| known == template) {
            missing.templates.push(template.to_owned());
        }
    }

    /// The problems by file, line and column, each once; those of the call itself come last.
    pub(crate) fn into_sorted(self) -> Vec<Problem> {
        let mut list = self.list;
        list.extend(self.missing.into_iter().map(|(name, missing)| missing.into_problem(&name)));
        list.sort_by(|a, b| key(a).cmp(&key(b)));
        // A parent's fault shows in each of its children; the parent, which is read first, has the better hint.
        list.dedup_by(|a, b| key(a) == key(b));
        list
    }

    /// An error with all problems.
    pub(crate) fn into_error(self) -> Error {
        Error::problems(Kind::Usage, self.into_sorted())
    }

    /// An error with all problems, if there are any.
    pub(crate) fn into_result(self) -> Result<(), Error> {
        if self.list.is_empty() && self.missing.is_empty() { Ok(()) } else { Err(self.into_error()) }
    }
}

impl Missing {
    fn into_problem(self, name: &str) -> Problem {
        let noun = if self.templates.len() == 1 { "template" } else { "templates" };
        let templates = self.templates.join(", ");
        Problem::new(format!("`{name}` is used by {noun} {templates} but was not given"))
            .hint(format!("give it with {} or {}", self.option, self.variable))
    }
}

fn key(problem: &Problem) -> (bool, Option<&Location>, &str) {
    (problem.location.is_none(), problem.location.as_ref(), &problem.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_by_place_and_drops_repetitions() {
        let place = |line| Location { file: "a.yml".into(), line, column: 1 };
        let mut problems = Problems::default();
        problems.add(Problem::new("the call"));
        problems.at(place(10), "late");
        problems.at(place(2), "early");
        problems.at(place(2), "early");
        let shown: Vec<_> = problems.into_sorted().iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["a.yml:2:1: early", "a.yml:10:1: late", "the call"]);
    }

    #[test]
    fn a_missing_value_is_one_problem() {
        let mut problems = Problems::default();
        for template in ["visa-base", "visa-apps", "visa-base"] {
            problems.missing("root_password", "-rp/--root-password PW", "VISA_ROOT_PASSWORD", template);
        }
        let list = problems.into_sorted();
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].message, "`root_password` is used by templates visa-base, visa-apps but was not given");
        assert_eq!(list[0].hint.as_deref(), Some("give it with -rp/--root-password PW or VISA_ROOT_PASSWORD"));
    }
}
