//! What is removed: a pure function of what is there.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::cache::inventory::{Item, ItemKind, State};

/// A day, seconds.
const DAY: u64 = 86400;

/// What is not wanted any more. Each rule alone is a reason; without any, only what nothing can use is removed.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Now, seconds since 1970.
    pub now: u64,
    /// What was not used for this long, seconds.
    pub older_than: Option<u64>,
    /// What was used longest ago, until the whole takes at most this, bytes.
    pub max_size: Option<u64>,
    /// Everything.
    pub all: bool,
    /// Base disks, layers and checkpoints that are not in `reachable`, nor below what is.
    pub unreachable: bool,
    /// What the projects need: ids. It stays, whatever the other rules say.
    pub reachable: BTreeSet<String>,
    /// Kept working folders, of which only the old ones where `older_than` is given.
    pub kept: bool,
    /// What the cache takes beside the items, bytes.
    pub beside: u64,
}

/// Why something is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Nothing can use it any more.
    Useless,
    /// It was not used for long.
    Age,
    /// The projects do not need it.
    Unreachable,
    /// The cache is too big.
    Size,
    /// All was asked for.
    All,
    /// It was kept, and is given up.
    Kept,
    /// It is broken, or lies on what is.
    Broken,
}

impl Reason {
    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Useless => "no use",
            Self::Age => "not used for long",
            Self::Unreachable => "not needed by the project",
            Self::Size => "the cache is too big",
            Self::All => "all was asked for",
            Self::Kept => "not kept any more",
            Self::Broken => "broken",
        }
    }
}

/// What is removed by `rules`, in the order of removal: nothing before all that lies on it. Never what is in use, kept
/// or reachable, nor what lies below that. The order of `items` does not matter.
pub fn choose<'a>(items: &'a [Item], rules: &Rules) -> Vec<(&'a Item, Reason)> {
    let graph = Graph::new(items);
    let pinned = graph.with_below(items.iter().filter(|item| is_pinned(item, rules)));
    let reasons: BTreeMap<&str, Reason> = items
        .iter()
        .filter(|item| !pinned.contains(item.id.as_str()))
        .filter_map(|item| Some((item.id.as_str(), reason(item, rules)?)))
        .collect();
    // What has a reason and lies below what has none never gets free of it, and so stays.
    let for_reasons = |item: &Item| reasons.get(item.id.as_str()).copied();
    let mut order = Order::new(&graph, rules.now);
    order.take(for_reasons, |_| true);
    if let Some(most) = rules.max_size {
        let all = items.iter().map(|item| item.bytes).sum::<u64>() + rules.beside;
        let mut left = all - order.chosen.iter().map(|(item, _)| item.bytes).sum::<u64>();
        order.take(
            |item| (!pinned.contains(item.id.as_str())).then_some(Reason::Size),
            |item| {
                let too_big = left > most;
                if too_big {
                    left -= item.bytes;
                }
                too_big
            },
        );
        order.take(for_reasons, |_| true);
    }
    order.chosen
}

/// `broken` and all that lies on them, what lies on something first; also what is in use.
pub fn with_all_on<'a>(items: &'a [Item], broken: &BTreeSet<String>) -> Vec<(&'a Item, Reason)> {
    let graph = Graph::new(items);
    let mut found = broken.clone();
    let mut next: Vec<&str> = broken.iter().map(String::as_str).collect();
    while let Some(id) = next.pop() {
        for above in graph.above.get(id).into_iter().flatten() {
            if found.insert((*above).to_owned()) {
                next.push(above);
            }
        }
    }
    let mut order = Order::new(&graph, 0);
    order.take(|item| found.contains(&item.id).then_some(Reason::Broken), |_| true);
    order.chosen
}

/// Whether it stays in any case.
fn is_pinned(item: &Item, rules: &Rules) -> bool {
    match item.state {
        State::InUse => true,
        State::Kept => !rules.kept,
        _ => rules.reachable.contains(&item.id),
    }
}

fn reason(item: &Item, rules: &Rules) -> Option<Reason> {
    let is_disk = item.kind <= ItemKind::Checkpoint;
    if item.state.is_garbage() {
        Some(Reason::Useless)
    } else if rules.all {
        Some(Reason::All)
    } else if rules.unreachable && is_disk {
        Some(Reason::Unreachable)
    } else if item.state == State::Kept && rules.kept && rules.older_than.is_none() {
        Some(Reason::Kept)
    } else if rules.older_than.is_some_and(|age| rules.now.saturating_sub(item.used) >= age) {
        Some(Reason::Age)
    } else {
        None
    }
}

/// What lies on what.
struct Graph<'a> {
    items: BTreeMap<&'a str, &'a Item>,
    above: BTreeMap<&'a str, BTreeSet<&'a str>>,
}

impl<'a> Graph<'a> {
    fn new(items: &'a [Item]) -> Self {
        let by_id: BTreeMap<&str, &Item> = items.iter().map(|item| (item.id.as_str(), item)).collect();
        let mut above: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for item in items {
            for below in item.needs.iter().filter(|id| by_id.contains_key(id.as_str())) {
                above.entry(below).or_default().insert(&item.id);
            }
        }
        Self { items: by_id, above }
    }

    /// These and all that they lie on.
    fn with_below(&self, items: impl Iterator<Item = &'a Item>) -> BTreeSet<&'a str> {
        let mut found: BTreeSet<&str> = BTreeSet::new();
        let mut next: Vec<&Item> = items.collect();
        while let Some(item) = next.pop() {
            if found.insert(&item.id) {
                next.extend(item.needs.iter().filter_map(|id| self.items.get(id.as_str()).copied()));
            }
        }
        found
    }
}

/// How soon something is removed: what was not used for long first, of those what costs least to make again.
type Rank = (std::cmp::Reverse<u8>, u8, u64);

fn rank(item: &Item, now: u64) -> Rank {
    let unused = now.saturating_sub(item.used) / DAY;
    let class = [1, 7, 30, 90].iter().filter(|days| unused >= **days).count();
    let cost = match item.kind {
        ItemKind::Work | ItemKind::Checkpoint => 0,
        ItemKind::Package => 1,
        ItemKind::Layer => 2,
        ItemKind::Base | ItemKind::Download => 3,
    };
    // At most four.
    (std::cmp::Reverse(u8::try_from(class).unwrap_or(u8::MAX)), cost, item.used)
}

/// Chooses one after the other among those on which nothing lies any more.
struct Order<'a, 'g> {
    graph: &'g Graph<'a>,
    now: u64,
    /// How many lie on each that is still there.
    above: BTreeMap<&'a str, usize>,
    gone: BTreeSet<&'a str>,
    chosen: Vec<(&'a Item, Reason)>,
}

impl<'a, 'g> Order<'a, 'g> {
    fn new(graph: &'g Graph<'a>, now: u64) -> Self {
        let above = graph.above.iter().map(|(id, above)| (*id, above.len())).collect();
        Self { graph, now, above, gone: BTreeSet::new(), chosen: Vec::new() }
    }

    /// Takes those that `reason` has a reason for, as long as `goes_on`.
    fn take(&mut self, reason: impl Fn(&Item) -> Option<Reason>, mut goes_on: impl FnMut(&Item) -> bool) {
        let is_free = |above: &BTreeMap<&str, usize>, id: &str| above.get(id).copied().unwrap_or(0) == 0;
        let items = self.graph.items.values().filter(|item| !self.gone.contains(item.id.as_str()));
        let free = items.filter(|item| is_free(&self.above, &item.id) && reason(item).is_some());
        let mut ready: BTreeSet<(Rank, &'a str)> = free.map(|item| (rank(item, self.now), item.id.as_str())).collect();
        while let Some((_, id)) = ready.pop_first() {
            let Some((item, why)) = self.graph.items.get(id).and_then(|item| Some((*item, reason(item)?))) else {
                continue;
            };
            if !goes_on(item) {
                return;
            }
            self.gone.insert(id);
            self.chosen.push((item, why));
            for below in &item.needs {
                let Some(count) = self.above.get_mut(below.as_str()) else { continue };
                *count = count.saturating_sub(1);
                if *count == 0
                    && let Some(freed) = self.graph.items.get(below.as_str()).filter(|item| reason(item).is_some())
                {
                    ready.insert((rank(freed, self.now), &freed.id));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const KINDS: [ItemKind; 6] =
        [ItemKind::Base, ItemKind::Layer, ItemKind::Checkpoint, ItemKind::Download, ItemKind::Package, ItemKind::Work];
    const STATES: [State; 7] =
        [State::InUse, State::Kept, State::Ready, State::Partial, State::Stale, State::Orphan, State::Abandoned];
    const NOW: u64 = 200 * DAY;

    prop_compose! {
        /// An item that may lie on those before it.
        fn item()(
            kind in 0..KINDS.len(), state in prop_oneof![3 => Just(2_usize), 1 => 0..STATES.len()],
            bytes in 0_u64..1000, days in 0_u64..200, on in vec(any::<prop::sample::Index>(), 0..3),
        ) -> (Item, Vec<prop::sample::Index>) {
            let used = NOW - days * DAY;
            (Item { bytes, used, ..Item::new(KINDS[kind], String::new(), STATES[state]) }, on)
        }
    }

    fn inventory() -> impl Strategy<Value = Vec<Item>> {
        vec(item(), 0..25).prop_map(|drawn| {
            let mut items: Vec<Item> = Vec::new();
            for (number, (item, on)) in drawn.into_iter().enumerate() {
                let needs = on.iter().filter(|_| number > 0).map(|on| format!("i{:02}", on.index(number))).collect();
                items.push(Item { id: format!("i{number:02}"), needs, ..item });
            }
            items
        })
    }

    fn rules() -> impl Strategy<Value = Rules> {
        let reachable = vec(0_usize..25, 0..4);
        let limits = (prop::option::of(0_u64..200), prop::option::of(0_u64..9000));
        (limits, any::<(bool, bool)>(), prop::bool::weighted(0.2), reachable).prop_map(
            |((days, max_size), (unreachable, kept), all, reachable)| Rules {
                now: NOW,
                older_than: days.map(|days| days * DAY),
                max_size,
                all,
                unreachable,
                reachable: reachable.into_iter().map(|number| format!("i{number:02}")).collect(),
                kept,
                beside: 7,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_needed_stays_and_what_lies_on_something_goes_first(items in inventory(), rules in rules()) {
            let chosen = choose(&items, &rules);
            let position = |id: &str| chosen.iter().position(|(item, _)| item.id == id);
            for item in &items {
                prop_assert!(position(&item.id).is_none() || !is_pinned(item, &rules), "{} is pinned", item.id);
                for below in &item.needs {
                    if let Some(gone) = position(below) {
                        let above = position(&item.id);
                        prop_assert!(above.is_some_and(|above| above < gone), "{} lies on {below}", item.id);
                    }
                }
            }
            let ids: BTreeSet<_> = chosen.iter().map(|(item, _)| &item.id).collect();
            prop_assert_eq!(ids.len(), chosen.len());
        }

        #[test]
        fn enough_is_removed_where_that_is_possible(items in inventory(), rules in rules()) {
            let chosen = choose(&items, &rules);
            let gone: BTreeSet<&str> = chosen.iter().map(|(item, _)| item.id.as_str()).collect();
            let graph = Graph::new(&items);
            let pinned = graph.with_below(items.iter().filter(|item| is_pinned(item, &rules)));
            let left: Vec<&Item> = items.iter().filter(|item| !gone.contains(item.id.as_str())).collect();
            let bytes: u64 = left.iter().map(|item| item.bytes).sum::<u64>() + rules.beside;
            if rules.max_size.is_some_and(|most| bytes > most) {
                prop_assert!(left.iter().all(|item| pinned.contains(item.id.as_str())));
            }
            // What has a reason stays only below something that has none.
            let reasonless = left.iter().copied().filter(|item| {
                pinned.contains(item.id.as_str()) || reason(item, &rules).is_none()
            });
            let staying = graph.with_below(reasonless);
            prop_assert!(left.iter().all(|item| staying.contains(item.id.as_str())));
        }

        #[test]
        fn the_order_of_what_is_there_does_not_matter(items in inventory().prop_shuffle_pair(), rules in rules()) {
            let ids = |items: &[Item]| -> Vec<(String, Reason)> {
                choose(items, &rules).into_iter().map(|(item, reason)| (item.id.clone(), reason)).collect()
            };
            prop_assert_eq!(ids(&items.0), ids(&items.1));
        }
    }

    trait ShufflePair {
        fn prop_shuffle_pair(self) -> BoxedStrategy<(Vec<Item>, Vec<Item>)>;
    }

    impl<S: Strategy<Value = Vec<Item>> + 'static> ShufflePair for S {
        fn prop_shuffle_pair(self) -> BoxedStrategy<(Vec<Item>, Vec<Item>)> {
            self.prop_flat_map(|items| (Just(items.clone()), Just(items).prop_shuffle())).boxed()
        }
    }

    #[test]
    fn a_checkpoint_goes_before_a_layer_and_a_layer_before_its_base() {
        let made = |id: &str, kind, days: u64, needs: &[&str]| Item {
            bytes: 10,
            used: NOW - days * DAY,
            needs: needs.iter().map(|id| (*id).to_owned()).collect(),
            ..Item::new(kind, id.to_owned(), State::Ready)
        };
        let items = [
            made("base", ItemKind::Base, 20, &[]),
            made("layer", ItemKind::Layer, 20, &["base"]),
            made("checkpoint", ItemKind::Checkpoint, 10, &["base"]),
            made("download", ItemKind::Download, 2, &[]),
        ];
        let ids = |max_size| {
            let rules = Rules { now: NOW, max_size: Some(max_size), ..Rules::default() };
            choose(&items, &rules).into_iter().map(|(item, _)| item.id.as_str()).collect::<Vec<_>>()
        };
        assert!(ids(40).is_empty());
        assert_eq!(ids(30), ["checkpoint"]);
        assert_eq!(ids(29), ["checkpoint", "layer"]);
        assert_eq!(ids(0), ["checkpoint", "layer", "base", "download"]);
    }
}
