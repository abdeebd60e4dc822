//! Which processes are meant: filters, and the tree that records form. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::record::{ProcessKind, ProcessRecord, ProcessStatus};

/// How deep a tree is followed: parents that name each other in a damaged journal end there.
const DEEPEST: usize = 64;

/// Where processes stand to one of them, by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relation {
    ChildrenOf(String),
    DescendantsOf(String),
    /// The root first.
    AncestorsOf(String),
    /// The process itself when nothing is above it.
    RootOf(String),
}

impl Relation {
    fn id(&self) -> &str {
        match self {
            Self::ChildrenOf(id) | Self::DescendantsOf(id) | Self::AncestorsOf(id) | Self::RootOf(id) => id,
        }
    }
}

/// Processes for which all holds that is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub running: bool,
    /// None: all.
    pub kinds: Vec<ProcessKind>,
    pub label: Option<String>,
    pub machine_id: Option<String>,
    /// Belongs to all of these.
    pub context: BTreeMap<String, String>,
    /// Belongs to this visit, or served it.
    pub visit_id: Option<i64>,
    pub relation: Option<Relation>,
}

/// A filter names a process that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no process has the id {0:?}")]
pub struct UnknownProcess(pub String);

impl Filter {
    /// Whether the process itself fits, its relations aside.
    pub fn fits(&self, record: &ProcessRecord) -> bool {
        let is = |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|wanted| wanted == value);
        let visit = |visit: i64| {
            let own = record.context.get("visit_id").is_some_and(|own| *own == visit.to_string());
            own || record.visits.contains(&visit)
        };
        (!self.running || record.status == ProcessStatus::Running)
            && (self.kinds.is_empty() || self.kinds.contains(&record.kind))
            && is(&self.label, &record.label)
            && is(&self.machine_id, &record.machine_id)
            && self.context.iter().all(|(key, value)| record.context.get(key) == Some(value))
            && self.visit_id.is_none_or(visit)
    }
}

/// The tree, or trees, of some records.
#[derive(Debug)]
pub struct Forest {
    /// In the order of their creation.
    records: Vec<Arc<ProcessRecord>>,
    places: HashMap<String, usize>,
    children: HashMap<usize, Vec<usize>>,
}

impl Forest {
    /// Of records in the order of their creation. One whose parent is not among them is a root.
    pub fn new(records: Vec<Arc<ProcessRecord>>) -> Self {
        let places: HashMap<String, usize> =
            records.iter().enumerate().map(|(place, record)| (record.id.clone(), place)).collect();
        let mut children: HashMap<usize, Vec<usize>> = HashMap::new();
        for (place, record) in records.iter().enumerate() {
            if let Some(parent) = record.parent_id.as_ref().and_then(|id| places.get(id)) {
                children.entry(*parent).or_default().push(place);
            }
        }
        Self { records, places, children }
    }

    fn place(&self, id: &str) -> Result<usize, UnknownProcess> {
        self.places.get(id).copied().ok_or_else(|| UnknownProcess(id.to_owned()))
    }

    fn parent(&self, place: usize) -> Option<usize> {
        self.records[place].parent_id.as_ref().and_then(|id| self.places.get(id)).copied()
    }

    /// Nearest first.
    fn above(&self, place: usize) -> Vec<usize> {
        std::iter::successors(self.parent(place), |above| self.parent(*above)).take(DEEPEST).collect()
    }

    /// Processes above one, as far as they are known.
    pub fn depth(&self, record: &ProcessRecord) -> u32 {
        self.place(&record.id).map_or(0, |place| u32::try_from(self.above(place).len()).unwrap_or(u32::MAX))
    }

    fn below(&self, place: usize) -> Vec<usize> {
        let mut found = Vec::new();
        let mut rest: Vec<(usize, usize)> = vec![(place, 0)];
        while let Some((place, depth)) = rest.pop() {
            found.push(place);
            if depth < DEEPEST {
                let children = self.children.get(&place).into_iter().flatten();
                rest.extend(children.rev().map(|child| (*child, depth + 1)));
            }
        }
        found
    }

    /// The records that a filter means, in the order of their creation; ancestors from the root on.
    ///
    /// # Errors
    /// When it names a process that is not among them.
    pub fn select(&self, filter: &Filter) -> Result<Vec<Arc<ProcessRecord>>, UnknownProcess> {
        let mut places: Vec<usize> = match &filter.relation {
            None => (0..self.records.len()).collect(),
            Some(relation) => {
                let place = self.place(relation.id())?;
                match relation {
                    Relation::ChildrenOf(_) => self.children.get(&place).cloned().unwrap_or_default(),
                    Relation::DescendantsOf(_) => {
                        let mut below: Vec<usize> = self.below(place).into_iter().skip(1).collect();
                        below.sort_unstable();
                        below
                    }
                    Relation::AncestorsOf(_) => self.above(place).into_iter().rev().collect(),
                    Relation::RootOf(_) => vec![self.above(place).last().copied().unwrap_or(place)],
                }
            }
        };
        places.retain(|place| filter.fits(&self.records[*place]));
        Ok(places.into_iter().map(|place| self.records[place].clone()).collect())
    }

    /// A walk: each process right before its children. From `root` on, or over all trees.
    ///
    /// # Errors
    /// When `root` is not among them.
    pub fn walk(&self, root: Option<&str>) -> Result<Vec<Arc<ProcessRecord>>, UnknownProcess> {
        let roots = match root {
            Some(id) => vec![self.place(id)?],
            None => (0..self.records.len()).filter(|place| self.parent(*place).is_none()).collect(),
        };
        let walked = roots.into_iter().flat_map(|root| self.below(root));
        Ok(walked.map(|place| self.records[place].clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, parent: &str, kind: ProcessKind, status: ProcessStatus) -> Arc<ProcessRecord> {
        Arc::new(ProcessRecord {
            id: id.to_owned(),
            label: id.to_owned(),
            parent_id: (!parent.is_empty()).then(|| parent.to_owned()),
            kind,
            status,
            ..ProcessRecord::default()
        })
    }

    /// The example of the seed: an orchestrator, a crawl's worker with a hook, a snapshot's with two.
    fn forest() -> Forest {
        use ProcessKind::{Hook, Service, Supervisor};
        use ProcessStatus::{Exited, Running};
        Forest::new(vec![
            record("orchestrator", "", Supervisor, Running),
            record("crawl", "orchestrator", Service, Running),
            record("chrome.js", "crawl", Hook, Running),
            record("snapshot", "orchestrator", Service, Running),
            record("wget.py", "snapshot", Hook, Exited),
            record("ytdlp.bg.py", "snapshot", Hook, Running),
        ])
    }

    fn labels(found: &[Arc<ProcessRecord>]) -> Vec<&str> {
        found.iter().map(|record| record.label.as_str()).collect()
    }

    fn of(filter: Filter) -> Vec<String> {
        labels(&forest().select(&filter).unwrap()).into_iter().map(str::to_owned).collect()
    }

    /// A13: children, descendants, root, ancestors, depth, hooks, running.
    #[test]
    fn relations_are_those_of_the_tree() {
        let related = |relation| of(Filter { relation: Some(relation), ..Filter::default() });
        assert_eq!(related(Relation::ChildrenOf("orchestrator".into())), ["crawl", "snapshot"]);
        assert_eq!(related(Relation::DescendantsOf("snapshot".into())), ["wget.py", "ytdlp.bg.py"]);
        assert_eq!(related(Relation::DescendantsOf("orchestrator".into())).len(), 5);
        assert_eq!(related(Relation::AncestorsOf("wget.py".into())), ["orchestrator", "snapshot"]);
        assert_eq!(related(Relation::RootOf("wget.py".into())), ["orchestrator"]);
        assert_eq!(related(Relation::RootOf("orchestrator".into())), ["orchestrator"]);
        let forest = forest();
        let depth = |place: usize| forest.depth(&forest.records[place]);
        assert_eq!((depth(0), depth(1), depth(4)), (0, 1, 2));
        let unknown = Filter { relation: Some(Relation::ChildrenOf("x".into())), ..Filter::default() };
        assert_eq!(forest.select(&unknown).unwrap_err(), UnknownProcess("x".into()));
        let hooks = Filter {
            running: true,
            kinds: vec![ProcessKind::Hook],
            relation: Some(Relation::DescendantsOf("orchestrator".into())),
            ..Filter::default()
        };
        assert_eq!(of(hooks), ["chrome.js", "ytdlp.bg.py"]);
    }

    /// A14: the walk is the seed's example.
    #[test]
    fn the_walk_puts_children_under_their_parents() {
        let all = ["orchestrator", "crawl", "chrome.js", "snapshot", "wget.py", "ytdlp.bg.py"];
        assert_eq!(labels(&forest().walk(None).unwrap()), all);
        assert_eq!(labels(&forest().walk(Some("snapshot")).unwrap()), all[3..]);
        assert!(forest().walk(Some("x")).is_err());
    }

    #[test]
    fn what_a_process_belongs_to_is_asked_for() {
        let mut with = ProcessRecord { id: "a".into(), visits: vec![5, 6], ..ProcessRecord::default() };
        with.context.insert("browser_id".into(), "7".into());
        with.context.insert("visit_id".into(), "9".into());
        let visit = |visit_id| Filter { visit_id: Some(visit_id), ..Filter::default() };
        assert!(visit(6).fits(&with) && visit(9).fits(&with) && !visit(7).fits(&with));
        let context = |id: &str| Filter {
            context: BTreeMap::from([("browser_id".to_owned(), id.to_owned())]),
            ..Filter::default()
        };
        assert!(context("7").fits(&with) && !context("8").fits(&with));
    }

    /// R9: records that name each other as parents end nothing.
    #[test]
    fn a_circle_of_parents_is_no_endless_walk() {
        let circle = Forest::new(vec![
            record("a", "b", ProcessKind::Binary, ProcessStatus::Running),
            record("b", "a", ProcessKind::Binary, ProcessStatus::Running),
        ]);
        assert_eq!(circle.depth(&circle.records[0]), DEEPEST as u32);
        assert!(circle.walk(Some("a")).unwrap().len() <= DEEPEST + 1);
    }
}
