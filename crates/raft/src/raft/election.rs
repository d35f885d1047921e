//! Elections: asking for votes, giving them, counting them.

use bytes::Bytes;

use super::{Raft, StateType};
use crate::config::NONE;
use crate::error::Error;
use crate::log::EntryId;
use crate::logger::log_line;
use crate::pb::{Message, MessageType};
use crate::quorum::VoteResult;
use crate::storage::Storage;

/// Why there is an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Campaign {
    /// First ask whether it could be won.
    PreElection,
    /// A timeout, or a pre-election won.
    Election,
    /// The leader wants this member to take over; others must not refuse because they hear the leader.
    Transfer,
}

/// Context of a vote request that is answered even by members that hear their leader.
const CAMPAIGN_TRANSFER: &[u8] = b"CampaignTransfer";

impl<S: Storage> Raft<S> {
    pub(super) const fn campaign_on_timeout(&self) -> Campaign {
        if self.config.pre_vote { Campaign::PreElection } else { Campaign::Election }
    }

    /// Whether this member could lead: it votes in its own configuration, and its state is not about to be
    /// replaced by a snapshot.
    pub(super) fn is_promotable(&self) -> bool {
        let progress = self.trk.progress.get(self.config.id);
        progress.is_some_and(|progress| !progress.is_learner || mutant::mutant!("R9-campaign"))
            && !self.log.has_next_or_in_progress_snapshot()
    }

    /// Starts an election, unless this member must not.
    pub(crate) fn hup(&mut self, campaign: Campaign) {
        let (id, term) = (self.config.id, self.term);
        if self.state == StateType::Leader {
            log_line!(self.logger, Debug, "{id:x} ignoring MsgHup because already leader");
            return;
        }
        if !self.is_promotable() {
            log_line!(self.logger, Warning, "{id:x} is unpromotable and can not campaign");
            return;
        }
        // It might win with the votes of a configuration that is no longer in force.
        if self.log.has_unapplied_conf_changes() {
            log_line!(
                self.logger,
                Warning,
                "{id:x} cannot campaign at term {term} since there are still pending configuration changes to apply"
            );
            return;
        }
        // Terms this high come from a broken peer; a term that wraps around would break everything.
        if term >= u64::MAX - 1 {
            log_line!(self.logger, Warning, "{id:x} cannot campaign: no term after {term}");
            return;
        }
        log_line!(self.logger, Info, "{id:x} is starting a new election at term {term}");
        self.campaign(campaign);
    }

    fn campaign(&mut self, campaign: Campaign) {
        let id = self.config.id;
        let (request, response, term) = if campaign == Campaign::PreElection {
            self.become_pre_candidate();
            (MessageType::PreVote, MessageType::PreVoteResp, self.term + 1)
        } else {
            self.become_candidate();
            (MessageType::Vote, MessageType::VoteResp, self.term)
        };
        let context = match campaign {
            Campaign::Transfer => Bytes::from_static(CAMPAIGN_TRANSFER),
            _ => Bytes::new(),
        };
        let last = self.log.last_entry_id();
        for &to in self.trk.config.voters.ids().ids() {
            if to == id {
                // Its own vote counts like any other: once it is durable.
                let vote = Message { msg_type: response, to, term, ..Message::default() };
                self.send(vote);
                continue;
            }
            log_line!(
                self.logger,
                Info,
                "{id:x} [logterm: {}, index: {}] sent {request} request to {to:x} at term {}",
                last.term,
                last.index,
                self.term
            );
            self.send(Message {
                msg_type: request,
                to,
                term,
                index: last.index,
                log_term: last.term,
                context: context.clone(),
                ..Message::default()
            });
        }
    }

    // ---- voting ----

    /// Whether a request for a vote comes while this member hears its leader: thesis §4.2.3.
    pub(super) fn is_in_lease_against(&mut self, m: &Message) -> bool {
        if !matches!(m.msg_type, MessageType::Vote | MessageType::PreVote) {
            return false;
        }
        let timeout = self.timers.election_timeout;
        let in_lease =
            self.config.check_quorum && self.lead != NONE && self.timers.election_elapsed < timeout;
        if !in_lease || m.context == CAMPAIGN_TRANSFER {
            return false;
        }
        if self.logger.wants(crate::Level::Info) {
            let last = self.log.last_entry_id();
            log_line!(
                self.logger,
                Info,
                "{:x} [logterm: {}, index: {}, vote: {:x}] ignored {} from {:x} [logterm: {}, index: {}] at term {}: lease is not expired (remaining ticks: {})",
                self.config.id,
                last.term,
                last.index,
                self.vote,
                m.msg_type,
                m.from,
                m.log_term,
                m.index,
                self.term,
                timeout - self.timers.election_elapsed
            );
        }
        true
    }

    /// Votes: thesis §3.4 and §3.6.1. A learner votes too, since it may have been made a voter without knowing it
    /// yet; the candidate's configuration decides whether the vote counts.
    pub(super) fn handle_vote_request(&mut self, m: &Message) {
        let can_vote = self.vote == m.from
            || (self.vote == NONE && self.lead == NONE)
            || (m.msg_type == MessageType::PreVote && m.term > self.term);
        let candidate = EntryId { term: m.log_term, index: m.index };
        let is_deaf = mutant::mutant!("R9-vote") && self.is_learner;
        if !can_vote || !self.log.is_up_to_date(candidate) || is_deaf {
            return self.reject_vote(m);
        }
        self.log_vote(m, "cast");
        // With the term of the request, which is that of this member for a vote but a later one for a pre-vote:
        // the candidate ignores what is of an earlier term.
        self.send(Message {
            msg_type: vote_response(m.msg_type),
            to: m.from,
            term: m.term,
            ..Message::default()
        });
        if m.msg_type == MessageType::Vote {
            self.timers.election_elapsed = 0;
            self.vote = m.from;
        }
    }

    pub(super) fn reject_vote(&mut self, m: &Message) {
        self.log_vote(m, "rejected");
        self.send(Message {
            msg_type: vote_response(m.msg_type),
            to: m.from,
            term: self.term,
            reject: true,
            ..Message::default()
        });
    }

    fn log_vote(&mut self, m: &Message, verdict: &str) {
        if !self.logger.wants(crate::Level::Info) {
            return;
        }
        let last = self.log.last_entry_id();
        let preposition = if verdict == "cast" { "for" } else { "from" };
        log_line!(
            self.logger,
            Info,
            "{:x} [logterm: {}, index: {}, vote: {:x}] {verdict} {} {preposition} {:x} [logterm: {}, index: {}] at term {}",
            self.config.id,
            last.term,
            last.index,
            self.vote,
            m.msg_type,
            m.from,
            m.log_term,
            m.index,
            self.term
        );
    }

    // ---- candidates ----

    pub(super) fn step_candidate(&mut self, m: Message) -> Result<(), Error> {
        let id = self.config.id;
        let expected = if self.state == StateType::PreCandidate {
            MessageType::PreVoteResp
        } else {
            MessageType::VoteResp
        };
        match m.msg_type {
            MessageType::Prop => {
                log_line!(
                    self.logger,
                    Info,
                    "{id:x} no leader at term {}; dropping proposal",
                    self.term
                );
                return Err(Error::ProposalDropped);
            }
            // Somebody else leads this term.
            MessageType::App | MessageType::Heartbeat | MessageType::Snap => {
                self.become_follower(self.term, m.from);
                return self.step_follower(m);
            }
            // A pre-vote answered late must not count as a vote.
            answer if answer == expected => self.handle_vote_response(&m),
            MessageType::TimeoutNow => log_line!(
                self.logger,
                Debug,
                "{id:x} [term {} state {}] ignored MsgTimeoutNow from {:x}",
                self.term,
                self.state,
                m.from
            ),
            _ => {}
        }
        Ok(())
    }

    fn handle_vote_response(&mut self, m: &Message) {
        let id = self.config.id;
        let rejection = if m.reject { " rejection" } else { "" };
        log_line!(
            self.logger,
            Info,
            "{id:x} received {}{rejection} from {:x} at term {}",
            m.msg_type,
            m.from,
            self.term
        );
        self.trk.record_vote(m.from, !m.reject);
        let (granted, rejected, result) = self.trk.tally_votes();
        log_line!(
            self.logger,
            Info,
            "{id:x} has received {granted} {} votes and {rejected} vote rejections",
            m.msg_type
        );
        match result {
            VoteResult::Won if self.state == StateType::PreCandidate => {
                self.campaign(Campaign::Election);
            }
            // Its own vote must be among them, and so be durable. A leader elected by others only could crash,
            // forget the term, be elected in it again by the very same votes, and replace its own entries.
            //
            // DIFF(etcd): there any quorum will do, which `async_storage_writes` makes unsafe.
            VoteResult::Won
                if self.trk.progress.contains(id)
                    && (self.trk.has_vote_of(id) || !self.needs_own_vote) =>
            {
                self.become_leader();
                self.broadcast_append();
            }
            VoteResult::Won | VoteResult::Pending => {}
            // A rejected pre-vote may carry a later term; it is not this member's yet.
            VoteResult::Lost => self.become_follower(self.term, NONE),
        }
    }
}

fn vote_response(request: MessageType) -> MessageType {
    match request {
        MessageType::Vote => MessageType::VoteResp,
        MessageType::PreVote => MessageType::PreVoteResp,
        other => panic!("not a vote message: {other}"),
    }
}
