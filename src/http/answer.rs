//! What a request is answered: a script, a boot program, a file, a refusal.
//!
//! Opens nothing: an answer names the file, and `serve` checks it before the
//! first byte. Pure.

use std::path::PathBuf;

use bytes::Bytes;

use super::{
    Refusal,
    request::{Method, Request, Wanted},
};
use crate::{
    boot::{
        self, Addressing, Asker, Claim, Next, Policy, Prelude, Sighting, Visitor, base_name,
        identify, script_for,
    },
    files::Catalogue,
    model::{
        Asset, Change, Checksum, Decision, ImageFile, Instance, InstanceId, Mac, Source, Stage,
        Timestamp, Token,
    },
    state::State,
};

/// What is the same for all requests at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Premises<'a> {
    /// What machines boot.
    pub policy: &'a Policy,
    /// Who gives out addresses.
    pub addressing: Addressing,
    /// The boot programs that there are; only asked if one is wanted.
    pub catalogue: &'a Catalogue,
}

/// A request and who sent it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The request.
    pub request: &'a Request,
    /// Where it comes from.
    pub visitor: Visitor,
}

/// What a request is answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// This script.
    Script(String),
    /// This boot program.
    Loader(Bytes),
    /// What of this file the conditions select, if it is what it should be.
    File(ServedFile),
    /// Nothing.
    Refused(Refusal),
}

/// A file that may be given to who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedFile {
    /// Where it is.
    pub place: Place,
    /// What its bytes must hash to.
    pub checksum: Option<Checksum>,
    /// The instance whose it is.
    pub instance: Option<InstanceId>,
}

/// Where a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the image directory.
    Images(ImageFile),
    /// Where the operator's command line says.
    Operator(PathBuf),
}

/// The answer to a request, and what it shows of its machine. HEAD changes
/// nothing: it is not known whether GET follows.
#[must_use]
pub fn answer(
    state: &State,
    premises: &Premises<'_>,
    asked: &Asked<'_>,
    now: Timestamp,
) -> Decision<Answer> {
    let visit = Visit { state, premises, visitor: asked.visitor, now };
    let (answer, change) = match visit.answer(&asked.request.wanted) {
        Ok(answered) => answered,
        Err(refusal) => (Answer::Refused(refusal), None),
    };
    let changes = match asked.request.method {
        Method::Get => change.into_iter().collect(),
        Method::Head => Vec::new(),
    };
    Decision { answer, changes }
}

/// All that the answers depend on but the thing wanted.
struct Visit<'a> {
    state: &'a State,
    premises: &'a Premises<'a>,
    visitor: Visitor,
    now: Timestamp,
}

impl Visit<'_> {
    fn answer(&self, wanted: &Wanted) -> Result<(Answer, Option<Change>), Refusal> {
        match wanted {
            Wanted::OwnScript(prelude) => self.script(Claim::None, *prelude),
            Wanted::ScriptOf(mac) => self.script(Claim::Mac(*mac), Prelude::None),
            Wanted::Loader(name) => {
                let program = self.premises.catalogue.content(name).ok_or(Refusal::NotFound)?;
                Ok((Answer::Loader(program.clone()), None))
            }
            Wanted::InstanceFile { token, number, name } => {
                self.instance_file(*token, *number, name)
            }
            Wanted::UnclaimedFile { number, name } => self.unclaimed_file(*number, name),
        }
    }

    fn machine(&self, claim: Claim) -> Result<Option<Mac>, Refusal> {
        let Self { state, premises, visitor, now } = self;
        Ok(identify(state, premises.addressing, *visitor, (claim, *now))?)
    }

    fn script(&self, claim: Claim, prelude: Prelude) -> Result<(Answer, Option<Change>), Refusal> {
        let mac = self.machine(claim)?;
        let asker = Asker { mac, address: self.visitor.address, prelude };
        let script = script_for(self.state, self.premises.policy, asker);
        let change =
            script.sighting.and_then(|sighting| boot::seen(self.state, sighting, self.now));
        Ok((Answer::Script(script.text), change))
    }

    fn instance_file(
        &self,
        token: Token,
        number: usize,
        name: &str,
    ) -> Result<(Answer, Option<Change>), Refusal> {
        let instance: &Instance = self.state.instances.of_token(token).ok_or(Refusal::NotFound)?;
        self.machine(Claim::Mac(instance.mac))?;
        let Asset { source, checksum } =
            instance.image.assets().nth(number).ok_or(Refusal::NotFound)?;
        match source {
            Source::File(file) if file.base_name() == name => {
                let served = ServedFile {
                    place: Place::Images(file.clone()),
                    checksum: *checksum,
                    instance: Some(instance.id),
                };
                Ok((Answer::File(served), self.kernel_seen(instance.mac, number)))
            }
            // The script names a URL itself; nothing is fetched for a machine.
            Source::File(_) | Source::Url(_) => Err(Refusal::NotFound),
        }
    }

    /// The image that every unclaimed machine boots is no secret of anybody's.
    fn unclaimed_file(
        &self,
        number: usize,
        name: &str,
    ) -> Result<(Answer, Option<Change>), Refusal> {
        let policy = self.premises.policy;
        let image = policy.unclaimed.as_ref().ok_or(Refusal::NotFound)?;
        let path = [&image.kernel, &image.initrd].get(number).copied().ok_or(Refusal::NotFound)?;
        if base_name(path) != name {
            return Err(Refusal::NotFound);
        }
        let served =
            ServedFile { place: Place::Operator(path.clone()), checksum: None, instance: None };
        let unclaimed = self
            .machine(Claim::None)?
            .filter(|mac| matches!(boot::next(self.state, policy, *mac), Next::Unclaimed(_)));
        let change = unclaimed.and_then(|mac| self.kernel_seen(mac, number));
        Ok((Answer::File(served), change))
    }

    fn kernel_seen(&self, mac: Mac, number: usize) -> Option<Change> {
        if number != 0 {
            return None;
        }
        let sighting = Sighting { mac, architecture: None, uuid: None, stage: Stage::Kernel };
        boot::seen(self.state, sighting, self.now)
    }
}
