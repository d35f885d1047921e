//! Intervals of keys, by the keys they hold: an AVL tree ordered by start and end, each node of
//! which knows the greatest end below it. No height depends on what clients ask for.

use std::cmp::Ordering;

/// Where an interval ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// Before this key.
    Before(Box<[u8]>),
    /// Never.
    Unbounded,
}

/// A map from intervals to `T`.
#[derive(Debug)]
pub(crate) struct IntervalMap<T> {
    nodes: Vec<Node<T>>,
    /// Nodes that are not in use.
    free: Vec<usize>,
    root: Option<usize>,
}

#[derive(Debug)]
struct Node<T> {
    start: Box<[u8]>,
    end: End,
    value: T,
    /// The node with the greatest end among this one and those below it.
    greatest: usize,
    height: u8,
    left: Option<usize>,
    right: Option<usize>,
}

#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
}

impl<T> Default for IntervalMap<T> {
    fn default() -> Self {
        Self { nodes: Vec::new(), free: Vec::new(), root: None }
    }
}

impl End {
    fn is_behind(&self, key: &[u8]) -> bool {
        match self {
            Self::Before(end) => key < &**end,
            Self::Unbounded => true,
        }
    }
}

impl<T: Default> IntervalMap<T> {
    /// The value of an interval, made if there is none.
    pub(crate) fn entry(&mut self, start: &[u8], end: &End) -> &mut T {
        let at = match self.find(start, end) {
            Some(at) => at,
            None => {
                let node = self.new_node(start, end);
                self.root = Some(self.insert(self.root, node));
                node
            }
        };
        &mut self.nodes[at].value
    }

    /// The value of an interval.
    pub(crate) fn get_mut(&mut self, start: &[u8], end: &End) -> Option<&mut T> {
        let at = self.find(start, end)?;
        Some(&mut self.nodes[at].value)
    }

    /// Removes an interval; no error if there is none.
    pub(crate) fn remove(&mut self, start: &[u8], end: &End) {
        if let Some(at) = self.find(start, end) {
            self.root = self.delete(self.root, at);
            let node = &mut self.nodes[at];
            (node.start, node.value) = (Box::default(), T::default());
            node.end = End::Unbounded;
            self.free.push(at);
        }
    }

    /// Calls `visit` with the value of each interval that holds `key`, by start and end.
    pub(crate) fn stab(&self, key: &[u8], mut visit: impl FnMut(&T)) {
        self.stab_below(self.root, key, &mut visit);
    }

    fn stab_below(&self, at: Option<usize>, key: &[u8], visit: &mut impl FnMut(&T)) {
        let Some(node) = at.map(|at| &self.nodes[at]) else {
            return;
        };
        if !self.nodes[node.greatest].end.is_behind(key) {
            return;
        }
        self.stab_below(node.left, key, visit);
        if *node.start <= *key {
            if node.end.is_behind(key) {
                visit(&node.value);
            }
            self.stab_below(node.right, key, visit);
        }
    }

    fn find(&self, start: &[u8], end: &End) -> Option<usize> {
        let mut at = self.root;
        while let Some(node) = at.map(|at| &self.nodes[at]) {
            at = match (start, end).cmp(&(&*node.start, &node.end)) {
                Ordering::Less => node.left,
                Ordering::Greater => node.right,
                Ordering::Equal => return at,
            };
        }
        None
    }

    fn new_node(&mut self, start: &[u8], end: &End) -> usize {
        let at = self.free.pop().unwrap_or(self.nodes.len());
        let node = Node {
            start: start.into(),
            end: end.clone(),
            value: T::default(),
            greatest: at,
            height: 1,
            left: None,
            right: None,
        };
        if at == self.nodes.len() {
            self.nodes.push(node);
        } else {
            self.nodes[at] = node;
        }
        at
    }

    fn order(&self, a: usize, b: usize) -> Ordering {
        let (a, b) = (&self.nodes[a], &self.nodes[b]);
        (&a.start, &a.end).cmp(&(&b.start, &b.end))
    }

    /// Puts `node` below `at`; returns the new top.
    fn insert(&mut self, at: Option<usize>, node: usize) -> usize {
        let Some(top) = at else {
            return node;
        };
        if self.order(node, top).is_lt() {
            self.nodes[top].left = Some(self.insert(self.nodes[top].left, node));
        } else {
            self.nodes[top].right = Some(self.insert(self.nodes[top].right, node));
        }
        self.balance(top)
    }

    /// Takes `node` out from below `at`; returns the new top.
    fn delete(&mut self, at: Option<usize>, node: usize) -> Option<usize> {
        let top = at?;
        match self.order(node, top) {
            Ordering::Less => self.nodes[top].left = self.delete(self.nodes[top].left, node),
            Ordering::Greater => self.nodes[top].right = self.delete(self.nodes[top].right, node),
            Ordering::Equal => {
                let (left, right) = (self.nodes[top].left, self.nodes[top].right);
                let (Some(_), Some(right)) = (left, right) else {
                    return left.or(right);
                };
                let (rest, least) = self.take_least(right);
                self.nodes[least].left = left;
                self.nodes[least].right = rest;
                return Some(self.balance(least));
            }
        }
        Some(self.balance(top))
    }

    /// Takes the least node out from below `top`; returns the new top and the node.
    fn take_least(&mut self, top: usize) -> (Option<usize>, usize) {
        let Some(left) = self.nodes[top].left else {
            return (self.nodes[top].right, top);
        };
        let (rest, least) = self.take_least(left);
        self.nodes[top].left = rest;
        (Some(self.balance(top)), least)
    }

    fn height(&self, at: Option<usize>) -> u8 {
        at.map_or(0, |at| self.nodes[at].height)
    }

    fn child(&self, at: usize, side: Side) -> Option<usize> {
        match side {
            Side::Left => self.nodes[at].left,
            Side::Right => self.nodes[at].right,
        }
    }

    fn set_child(&mut self, at: usize, side: Side, child: Option<usize>) {
        match side {
            Side::Left => self.nodes[at].left = child,
            Side::Right => self.nodes[at].right = child,
        }
    }

    /// Restores the balance at `top`, whose subtrees differ by two at most; returns the new top.
    fn balance(&mut self, top: usize) -> usize {
        let (left, right) = (self.height(self.nodes[top].left), self.height(self.nodes[top].right));
        let (heavy, light) = match (left, right) {
            _ if left > right + 1 => (Side::Left, Side::Right),
            _ if right > left + 1 => (Side::Right, Side::Left),
            _ => {
                self.update(top);
                return top;
            }
        };
        let child = self.child(top, heavy).expect("the heavy side is not empty");
        if self.height(self.child(child, light)) > self.height(self.child(child, heavy)) {
            let raised = self.rotate(child, light, heavy);
            self.set_child(top, heavy, Some(raised));
        }
        self.rotate(top, heavy, light)
    }

    /// Raises the child on side `up` above `top`; returns it.
    fn rotate(&mut self, top: usize, up: Side, other: Side) -> usize {
        let child = self.child(top, up).expect("a rotation raises a child");
        self.set_child(top, up, self.child(child, other));
        self.update(top);
        self.set_child(child, other, Some(top));
        self.update(child);
        child
    }

    fn update(&mut self, at: usize) {
        let (left, right) = (self.nodes[at].left, self.nodes[at].right);
        let mut greatest = at;
        for child in [left, right].into_iter().flatten() {
            let candidate = self.nodes[child].greatest;
            if self.nodes[candidate].end > self.nodes[greatest].end {
                greatest = candidate;
            }
        }
        self.nodes[at].greatest = greatest;
        self.nodes[at].height = 1 + self.height(left).max(self.height(right));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{End, IntervalMap};

    fn interval() -> impl Strategy<Value = (Box<[u8]>, End)> {
        let key = proptest::collection::vec(0u8..4, 1..3).prop_map(Vec::into_boxed_slice);
        let end = prop_oneof![
            1 => Just(End::Unbounded),
            5 => key.clone().prop_map(End::Before),
        ];
        (key, end)
    }

    impl<T: Default> IntervalMap<T> {
        /// Checks order, balance and greatest ends; returns height and number of nodes.
        fn check(&self, at: Option<usize>) -> (u8, usize) {
            let Some(at) = at else {
                return (0, 0);
            };
            let node = &self.nodes[at];
            let (left, left_len) = self.check(node.left);
            let (right, right_len) = self.check(node.right);
            assert!(left.abs_diff(right) <= 1);
            assert_eq!(node.height, 1 + left.max(right));
            assert!(node.left.is_none_or(|left| self.order(left, at).is_lt()));
            assert!(node.right.is_none_or(|right| self.order(right, at).is_gt()));
            let below = [Some(at), node.left, node.right].into_iter().flatten();
            let ends = below.map(|child| match child == at {
                true => &node.end,
                false => &self.nodes[self.nodes[child].greatest].end,
            });
            assert_eq!(ends.max(), Some(&self.nodes[node.greatest].end));
            (node.height, 1 + left_len + right_len)
        }
    }

    proptest! {
        #[test]
        fn stabs_as_a_list_does(
            ops in proptest::collection::vec((any::<bool>(), interval()), 0..200),
            keys in proptest::collection::vec(proptest::collection::vec(0u8..4, 1..3), 1..20),
        ) {
            let mut map: IntervalMap<u32> = IntervalMap::default();
            let mut list: BTreeMap<(Box<[u8]>, End), u32> = BTreeMap::new();
            for (number, (add, (start, end))) in (1..).zip(ops) {
                if add {
                    *map.entry(&start, &end) = number;
                    list.insert((start, end), number);
                } else {
                    map.remove(&start, &end);
                    list.remove(&(start, end));
                }
                prop_assert_eq!(map.check(map.root).1, list.len());
            }
            for key in keys {
                let mut hits = Vec::new();
                map.stab(&key, |number| hits.push(*number));
                let expected: Vec<u32> = list
                    .iter()
                    .filter(|((start, end), _)| **start <= *key && end.is_behind(&key))
                    .map(|(_, number)| *number)
                    .collect();
                prop_assert_eq!(hits, expected);
            }
        }
    }
}
