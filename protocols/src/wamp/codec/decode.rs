//! From element bounds to a message, the same for every serialization.

use super::Limits;
use super::layout::{Layout, MAX_ELEMENTS, layout_of};
use crate::wamp::errors::{ElementFault, Violation};
use crate::wamp::message::{
    Abort, Authenticate, Call, Cancel, Challenge, Dict, ErrorMessage, Event, Goodbye, Hello,
    Interrupt, Invocation, MAX_ID, Message, Payload, Publish, Published, Register, Registered,
    ResultMessage, Subscribe, Subscribed, Unregister, Unregistered, Unsubscribe, Unsubscribed,
    Welcome, Yield,
};
use bytes::Bytes;
use bytestring::ByteString;
use router_core::encoding::{Elements, Encoding, Fault, Kind, value};
use std::marker::PhantomData;
use std::ops::Range;

/// How a serialization spells the parts of a header that are read.
pub(super) trait ReadWire {
    const ENCODING: Encoding;
    /// An integer of at least 0.
    fn unsigned(raw: &[u8]) -> Option<u64>;
    /// A string, if possible as a slice of the frame.
    fn text(frame: &Bytes, range: Range<usize>) -> Result<ByteString, ElementFault>;
}

pub(super) fn decode<W: ReadWire>(frame: &Bytes, limits: &Limits) -> Result<Message, Violation> {
    let ranges = match W::ENCODING.split_array_at_most(frame, MAX_ELEMENTS) {
        Ok(Some(ranges)) => ranges,
        Ok(None) => return Err(Violation::TooManyElements { max: MAX_ELEMENTS }),
        Err(error) if error.fault == Fault::NotAnArray => return Err(Violation::NotAList),
        Err(error) => return Err(Violation::Undecodable(error)),
    };
    let Some(first) = ranges.first() else {
        return Err(Violation::EmptyList);
    };
    let code = frame.get(first.clone()).unwrap_or_default();
    let bad_code = || Violation::BadCode {
        got: W::ENCODING.kind(code),
    };
    let code = W::unsigned(code).ok_or_else(bad_code)?;
    let layout = layout_of(code).ok_or(Violation::UnknownCode(code))?;
    let (min, max, got) = (layout.required, layout.elements.len(), ranges.len());
    if !(min..=max).contains(&got) {
        return Err(Violation::ElementCount {
            message: layout.name,
            min,
            max,
            got,
        });
    }
    read(&Fields::<W> {
        frame,
        ranges,
        layout,
        limits,
        wire: PhantomData,
    })
}

fn read<W: ReadWire>(fields: &Fields<'_, W>) -> Result<Message, Violation> {
    Ok(match fields.layout.code {
        1 => Hello {
            realm: fields.text(1)?,
            details: fields.dict(2)?,
        }
        .into(),
        2 => Welcome {
            session: fields.id(1)?,
            details: fields.dict(2)?,
        }
        .into(),
        3 => {
            let details = fields.dict(1)?;
            let payload = fields.payload(3, &details)?;
            Abort {
                details,
                reason: fields.text(2)?,
                payload,
            }
            .into()
        }
        4 => Challenge {
            method: fields.text(1)?,
            extra: fields.dict(2)?,
        }
        .into(),
        5 => Authenticate {
            signature: fields.text(1)?,
            extra: fields.dict(2)?,
        }
        .into(),
        6 => Goodbye {
            details: fields.dict(1)?,
            reason: fields.text(2)?,
        }
        .into(),
        8 => {
            let details = fields.dict(3)?;
            let payload = fields.payload(5, &details)?;
            let (request_type, request) = (fields.unsigned(1)?, fields.id(2)?);
            ErrorMessage {
                request_type,
                request,
                details,
                error: fields.text(4)?,
                payload,
            }
            .into()
        }
        16 => {
            let options = fields.dict(2)?;
            let payload = fields.payload(4, &options)?;
            Publish {
                request: fields.id(1)?,
                options,
                topic: fields.text(3)?,
                payload,
            }
            .into()
        }
        17 => Published {
            request: fields.id(1)?,
            publication: fields.id(2)?,
        }
        .into(),
        32 => {
            let (request, options) = (fields.id(1)?, fields.dict(2)?);
            Subscribe {
                request,
                options,
                topic: fields.text(3)?,
            }
            .into()
        }
        33 => Subscribed {
            request: fields.id(1)?,
            subscription: fields.id(2)?,
        }
        .into(),
        34 => Unsubscribe {
            request: fields.id(1)?,
            subscription: fields.id(2)?,
        }
        .into(),
        35 => {
            let (request, revocation) = fields.revocation()?;
            Unsubscribed {
                request,
                revocation,
            }
            .into()
        }
        36 => {
            let details = fields.dict(3)?;
            let payload = fields.payload(4, &details)?;
            let (subscription, publication) = (fields.id(1)?, fields.id(2)?);
            Event {
                subscription,
                publication,
                details,
                payload,
            }
            .into()
        }
        48 => {
            let options = fields.dict(2)?;
            let payload = fields.payload(4, &options)?;
            Call {
                request: fields.id(1)?,
                options,
                procedure: fields.text(3)?,
                payload,
            }
            .into()
        }
        49 => Cancel {
            request: fields.id(1)?,
            options: fields.dict(2)?,
        }
        .into(),
        50 => {
            let details = fields.dict(2)?;
            let payload = fields.payload(3, &details)?;
            ResultMessage {
                request: fields.id(1)?,
                details,
                payload,
            }
            .into()
        }
        64 => {
            let (request, options) = (fields.id(1)?, fields.dict(2)?);
            Register {
                request,
                options,
                procedure: fields.text(3)?,
            }
            .into()
        }
        65 => Registered {
            request: fields.id(1)?,
            registration: fields.id(2)?,
        }
        .into(),
        66 => Unregister {
            request: fields.id(1)?,
            registration: fields.id(2)?,
        }
        .into(),
        67 => {
            let (request, revocation) = fields.revocation()?;
            Unregistered {
                request,
                revocation,
            }
            .into()
        }
        68 => {
            let details = fields.dict(3)?;
            let payload = fields.payload(4, &details)?;
            let (request, registration) = (fields.id(1)?, fields.id(2)?);
            Invocation {
                request,
                registration,
                details,
                payload,
            }
            .into()
        }
        69 => Interrupt {
            request: fields.id(1)?,
            options: fields.dict(2)?,
        }
        .into(),
        70 => {
            let options = fields.dict(2)?;
            let payload = fields.payload(3, &options)?;
            Yield {
                request: fields.id(1)?,
                options,
                payload,
            }
            .into()
        }
        code => return Err(Violation::UnknownCode(code)),
    })
}

/// The elements of one message whose number fits its layout.
struct Fields<'f, W> {
    frame: &'f Bytes,
    ranges: Elements,
    layout: &'static Layout,
    limits: &'f Limits,
    wire: PhantomData<W>,
}

impl<W: ReadWire> Fields<'_, W> {
    fn range(&self, index: usize) -> Range<usize> {
        self.ranges.get(index).cloned().unwrap_or_default()
    }

    fn raw(&self, index: usize) -> &[u8] {
        self.frame.get(self.range(index)).unwrap_or_default()
    }

    fn kind(&self, index: usize) -> Option<Kind> {
        W::ENCODING.kind(self.raw(index))
    }

    fn fault(&self, index: usize, fault: ElementFault) -> Violation {
        let element = self.layout.elements.get(index).copied().unwrap_or_default();
        Violation::Element {
            message: self.layout.name,
            index,
            element,
            fault,
        }
    }

    fn wrong_type(&self, index: usize, expected: &'static str) -> Violation {
        self.fault(
            index,
            ElementFault::Type {
                expected,
                got: self.kind(index),
            },
        )
    }

    fn unsigned(&self, index: usize) -> Result<u64, Violation> {
        W::unsigned(self.raw(index)).ok_or_else(|| self.wrong_type(index, "an integer"))
    }

    /// Section "Identifiers": an integer in 1..=2^53.
    fn id(&self, index: usize) -> Result<u64, Violation> {
        match W::unsigned(self.raw(index)) {
            Some(id) if (1..=MAX_ID).contains(&id) => Ok(id),
            None if !matches!(self.kind(index), Some(Kind::Integer | Kind::Float)) => {
                Err(self.wrong_type(index, "an integer"))
            }
            _ => Err(self.fault(index, ElementFault::IdRange)),
        }
    }

    fn text(&self, index: usize) -> Result<ByteString, Violation> {
        if self.kind(index) != Some(Kind::Text) {
            return Err(self.wrong_type(index, "a string"));
        }
        W::text(self.frame, self.range(index)).map_err(|fault| self.fault(index, fault))
    }

    fn dict(&self, index: usize) -> Result<Dict, Violation> {
        if self.kind(index) != Some(Kind::Map) {
            return Err(self.wrong_type(index, "a dict"));
        }
        let raw = self.raw(index);
        if W::ENCODING.is_empty_container(raw) {
            return Ok(Dict::new());
        }
        let max = self.limits.dict_bytes;
        if raw.len() > max {
            return Err(self.fault(index, ElementFault::TooLarge { max }));
        }
        value::parse_map(W::ENCODING, raw)
            .map_err(|error| self.fault(index, ElementFault::Malformed(error)))
    }

    /// The request of UNSUBSCRIBED and UNREGISTERED, with the dict of a revocation (Advanced
    /// Profile, "Subscription Revocation" and "Registration Revocation").
    fn revocation(&self) -> Result<(u64, Option<Dict>), Violation> {
        if self.ranges.len() < 3 {
            return Ok((self.id(1)?, None));
        }
        match W::unsigned(self.raw(1)) {
            Some(0) => Ok((0, Some(self.dict(2)?))),
            Some(_) => Err(self.fault(1, ElementFault::Revocation)),
            None => Err(self.wrong_type(1, "an integer")),
        }
    }

    /// The arguments, from element `index` on; `options` are those of the same message.
    fn payload(&self, index: usize, options: &Dict) -> Result<Payload, Violation> {
        let args = match self.argument(index, Kind::Array, "a list") {
            Err(_) if self.is_opaque(index, options) => self.slice(index),
            other => other?,
        };
        let kwargs = self.argument(index + 1, Kind::Map, "a dict")?;
        Ok(Payload { args, kwargs })
    }

    /// Null in the place of arguments counts as absent.
    fn argument(
        &self,
        index: usize,
        wanted: Kind,
        expected: &'static str,
    ) -> Result<Option<Bytes>, Violation> {
        if index >= self.ranges.len() {
            return Ok(None);
        }
        match self.kind(index) {
            Some(Kind::Null | Kind::Undefined) => Ok(None),
            Some(kind) if kind == wanted => Ok(self.slice(index)),
            _ => Err(self.wrong_type(index, expected)),
        }
    }

    fn slice(&self, index: usize) -> Option<Bytes> {
        let range = self.range(index);
        (range.end <= self.frame.len()).then(|| self.frame.slice(range))
    }

    /// A single binary, announced by the option that older clients use for encrypted payload.
    fn is_opaque(&self, index: usize, options: &Dict) -> bool {
        index + 1 == self.ranges.len()
            && options
                .get("enc_algo")
                .is_some_and(serde_json::Value::is_string)
            && W::ENCODING.as_binary(self.raw(index)).is_some()
    }
}
