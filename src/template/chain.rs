//! Who extends whom: unknown parents, cycles, and the order of building.

use std::collections::BTreeSet;

use super::config::Declaration;
use super::nearest::suggestion;
use super::problems::Problems;
use crate::error::Problem;

/// The chains of a project's templates.
#[derive(Debug)]
pub(super) struct Chains {
    /// For each template the numbers of its ancestors and itself, the first one first; none where
    /// a parent is unknown or the chain is a cycle.
    chains: Vec<Option<Vec<usize>>>,
}

impl Chains {
    /// Follows `extends` from every template; unknown parents and cycles are reported, each once.
    pub(super) fn new(templates: &[Declaration], problems: &mut Problems) -> Self {
        let parents: Vec<_> = templates.iter().map(|template| parent(templates, template, problems)).collect();
        let mut cycles = BTreeSet::new();
        let chains = (0..templates.len())
            .map(|start| match walk(&parents, start) {
                Walk::Chain(chain) => Some(chain),
                Walk::Broken => None,
                Walk::Cycle(members) => {
                    cycles.insert(members);
                    None
                }
            })
            .collect();
        for members in cycles {
            report(templates, &members, problems);
        }
        Self { chains }
    }

    /// The template's ancestors and itself, the first one first.
    pub(super) fn of(&self, template: usize) -> Option<&[usize]> {
        self.chains.get(template)?.as_deref()
    }

    /// The selected templates and their ancestors: parents first, otherwise in order.
    pub(super) fn order(&self, selected: &BTreeSet<usize>) -> Vec<usize> {
        let mut order = Vec::new();
        for member in selected.iter().filter_map(|template| self.of(*template)).flatten() {
            if !order.contains(member) {
                order.push(*member);
            }
        }
        order
    }
}

/// A template's parent.
#[derive(Debug, Clone, Copy)]
enum Parent {
    None,
    Unknown,
    At(usize),
}

fn parent(templates: &[Declaration], template: &Declaration, problems: &mut Problems) -> Parent {
    if template.faulty {
        return Parent::Unknown;
    }
    let Some(extends) = &template.extends else { return Parent::None };
    if let Some(at) = templates.iter().position(|other| other.name == extends.name) {
        return Parent::At(at);
    }
    let message = format!("`{}` extends `{}`, which is not declared", template.name, extends.name);
    let problem = Problem::at(extends.location.clone(), message);
    let others = templates.iter().map(|other| other.name.as_str()).filter(|other| *other != template.name);
    problems.add(match suggestion(&extends.name, others) {
        Some(hint) => problem.hint(hint),
        None => problem,
    });
    Parent::Unknown
}

enum Walk {
    Chain(Vec<usize>),
    Broken,
    /// The members, from the one that is declared first.
    Cycle(Vec<usize>),
}

fn walk(parents: &[Parent], start: usize) -> Walk {
    let mut path = vec![start];
    loop {
        match path.last().and_then(|last| parents.get(*last)) {
            None | Some(Parent::Unknown) => return Walk::Broken,
            Some(Parent::None) => {
                path.reverse();
                return Walk::Chain(path);
            }
            Some(Parent::At(next)) => match path.iter().position(|member| member == next) {
                Some(from) => {
                    let mut members = path.split_off(from);
                    let first = members.iter().enumerate().min_by_key(|(_, member)| **member).map_or(0, |(at, _)| at);
                    members.rotate_left(first);
                    return Walk::Cycle(members);
                }
                None => path.push(*next),
            },
        }
    }
}

fn report(templates: &[Declaration], members: &[usize], problems: &mut Problems) {
    let name = |member: &usize| format!("`{}`", templates[*member].name);
    let message = match members {
        [only] => format!("{} extends itself", name(only)),
        _ => {
            let names: Vec<_> = members.iter().chain(members.first()).map(name).collect();
            names.join(" extends ")
        }
    };
    let location =
        members.first().and_then(|first| templates[*first].extends.as_ref()).map(|extends| &extends.location);
    if let Some(location) = location {
        problems.add(Problem::at(location.clone(), message).hint("remove one `extends:` of the circle"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Location;
    use crate::template::config::Reference;

    fn chains(pairs: &[(&str, &str)]) -> (Chains, Vec<String>) {
        let location = |line| Location { file: "config.yml".into(), line, column: 1 };
        let declare = |(at, (name, extends)): (usize, &(&str, &str))| Declaration {
            name: (*name).to_owned(),
            location: location(at + 1),
            extends: (!extends.is_empty())
                .then(|| Reference { name: (*extends).to_owned(), location: location(at + 1) }),
            packages: Vec::new(),
            faulty: false,
        };
        let templates: Vec<_> = pairs.iter().enumerate().map(declare).collect();
        let mut problems = Problems::default();
        let chains = Chains::new(&templates, &mut problems);
        (chains, problems.into_sorted().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn parents_come_first_and_order_is_kept() {
        let (chains, problems) = chains(&[("apps", "base"), ("other", ""), ("base", "system"), ("system", "")]);
        assert!(problems.is_empty());
        assert_eq!(chains.of(0), Some(&[3, 2, 0][..]));
        assert_eq!(chains.order(&BTreeSet::from([0, 1])), [3, 2, 0, 1]);
        assert_eq!(chains.order(&BTreeSet::from([2])), [3, 2]);
    }

    /// The cases that inheritance gets wrong: each fault once, and all of them.
    #[test]
    fn every_fault_is_reported_once() {
        let (chains, problems) = chains(&[
            ("a", "b"),
            ("b", "c"),
            ("c", "a"),
            ("into-cycle", "b"),
            ("self", "self"),
            ("x", "y"),
            ("y", "x"),
            ("orphan", "nobody"),
            ("child-of-orphan", "orphan"),
            ("good", ""),
        ]);
        assert_eq!(
            problems,
            [
                "config.yml:1:1: `a` extends `b` extends `c` extends `a`",
                "config.yml:5:1: `self` extends itself",
                "config.yml:6:1: `x` extends `y` extends `x`",
                "config.yml:8:1: `orphan` extends `nobody`, which is not declared",
            ]
        );
        let sound: Vec<_> = (0..10).filter(|at| chains.of(*at).is_some()).collect();
        assert_eq!(sound, [9]);
    }
}
