//! A window as it is written down. One of time is a handful of sums, in one piece. One of calls can be
//! ten thousand of them: those are numbered, and written in blocks that are each a fact of its own, over
//! the one that has left the window. Only a block with something new in it is written again, and the head
//! last: what is in a block from after the time that the head says is not taken.

use intended_model::entry::BreakerWindow;
use serde::{Deserialize, Serialize};

use super::ring::{BLOCK, Sums};

/// Everything in a window from before a time. As it is written down, of a window of calls without them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    pub(super) of: BreakerWindow,
    pub target: Box<str>,
    pub until: i64,
    /// Which blocks are its own.
    pub(super) born: i64,
    pub(super) decisions: Vec<(i64, Sums)>,
    pub(super) outcomes: Vec<(i64, Sums)>,
}

impl Kept {
    /// How much is in it.
    pub fn weight(&self) -> u64 {
        self.decisions.iter().chain(&self.outcomes).fold(0, |all, (_, sums)| sums.all.saturating_add(all))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    Decisions,
    Outcomes,
}

/// Some of the calls in a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    pub(super) born: i64,
    pub(super) part: Part,
    /// The number of its first.
    pub(super) first: u64,
    pub(super) calls: Vec<(i64, Sums)>,
}

impl Block {
    /// What it is called among those of a window of so many calls. Of those that are within the window at
    /// one time, no two are called the same.
    #[must_use]
    pub fn name(&self, calls: u32) -> String {
        let part = match self.part {
            Part::Decisions => 'd',
            Part::Outcomes => 'o',
        };
        format!("{part}{}", self.first / BLOCK % (u64::from(calls).div_ceil(BLOCK) + 1))
    }
}

/// What is to be written down of a window: the blocks, and then the head.
#[derive(Debug)]
pub struct Written {
    pub head: Kept,
    pub blocks: Vec<Block>,
}

impl Written {
    /// What each block is called.
    pub fn named(&self) -> impl Iterator<Item = (String, &Block)> {
        let calls = match self.head.of {
            BreakerWindow::Calls(n) => n,
            BreakerWindow::Secs(_) => 0,
        };
        self.blocks.iter().map(move |block| (block.name(calls), block))
    }
}

/// A head with what is in its blocks.
#[must_use]
pub fn assembled(mut head: Kept, mut blocks: Vec<Block>) -> Kept {
    blocks.retain(|block| block.born == head.born);
    blocks.sort_by_key(|block| block.first);
    for block in blocks {
        let into = match block.part {
            Part::Decisions => &mut head.decisions,
            Part::Outcomes => &mut head.outcomes,
        };
        into.extend(block.calls.into_iter().filter(|(at, _)| *at < head.until));
    }
    head
}
