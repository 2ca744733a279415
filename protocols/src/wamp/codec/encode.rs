//! From a message to its frame, the same for every serialization.

use super::{Arguments, Details};
use crate::wamp::message::{Dict, Message};
use bytes::{Bytes, BytesMut};
use router_core::encoding::{Encoding, value};
use std::marker::PhantomData;

/// How a serialization spells the parts of a header that are written.
pub(super) trait WriteWire {
    const ENCODING: Encoding;
    const EMPTY_LIST: &'static [u8];
    const EMPTY_DICT: &'static [u8];
    /// Opens a list of `len` elements.
    fn open(out: &mut BytesMut, len: usize);
    /// Stands between two elements.
    const SEPARATOR: &'static [u8];
    /// Closes the list.
    const CLOSE: &'static [u8];
    fn unsigned(out: &mut BytesMut, value: u64);
    fn text(out: &mut BytesMut, text: &str);
}

/// What of a payload is written.
struct Tail<'p> {
    args: Option<&'p [u8]>,
    kwargs: Option<&'p [u8]>,
}

impl<'p> Tail<'p> {
    fn new<W: WriteWire>(payload: Arguments<'p>) -> Tail<'p> {
        let trim = |part: Option<&'p [u8]>| part.filter(|raw| !W::ENCODING.is_empty_container(raw));
        let kwargs = trim(payload.kwargs);
        let args = match kwargs {
            Some(_) => Some(payload.args.unwrap_or(W::EMPTY_LIST)),
            None => trim(payload.args),
        };
        Tail { args, kwargs }
    }

    fn elements(&self) -> usize {
        usize::from(self.args.is_some()) + usize::from(self.kwargs.is_some())
    }

    fn bytes(&self) -> usize {
        self.args.map_or(0, <[u8]>::len) + self.kwargs.map_or(0, <[u8]>::len) + 2
    }
}

/// Room for the numbers and brackets of any header.
const HEADER_BYTES: usize = 72;

/// Writes one list; the constructor is told how many elements follow.
struct List<'o, W> {
    out: &'o mut BytesMut,
    is_first: bool,
    wire: PhantomData<W>,
}

impl<'o, W: WriteWire> List<'o, W> {
    fn new(out: &'o mut BytesMut, len: usize) -> Self {
        W::open(out, len);
        List {
            out,
            is_first: true,
            wire: PhantomData,
        }
    }

    fn separate(&mut self) {
        if !self.is_first {
            self.out.extend_from_slice(W::SEPARATOR);
        }
        self.is_first = false;
    }

    fn unsigned(mut self, value: u64) -> Self {
        self.separate();
        W::unsigned(self.out, value);
        self
    }

    fn text(mut self, text: &str) -> Self {
        self.separate();
        W::text(self.out, text);
        self
    }

    fn raw(mut self, raw: &[u8]) -> Self {
        self.separate();
        self.out.extend_from_slice(raw);
        self
    }

    fn dict(mut self, dict: &Dict) -> Self {
        self.separate();
        value::write_map(W::ENCODING, dict, self.out);
        self
    }

    fn details(self, details: Details<'_>) -> Self {
        match details {
            Details::Empty => self.raw(W::EMPTY_DICT),
            Details::Encoded(raw) => self.raw(raw),
            Details::Dict(dict) => self.dict(dict),
        }
    }

    fn tail(mut self, tail: &Tail<'_>) -> Self {
        if let Some(args) = tail.args {
            self = self.raw(args);
        }
        if let Some(kwargs) = tail.kwargs {
            self = self.raw(kwargs);
        }
        self
    }

    fn close(self) {
        self.out.extend_from_slice(W::CLOSE);
    }
}

/// Starts a message of `head` elements and a payload.
fn with_tail<'o, W: WriteWire>(out: &'o mut BytesMut, head: usize, tail: &Tail<'_>) -> List<'o, W> {
    out.reserve(HEADER_BYTES + tail.bytes());
    List::new(out, head + tail.elements())
}

pub(super) fn put_event<W: WriteWire>(
    out: &mut BytesMut,
    subscription: u64,
    publication: u64,
    details: Details<'_>,
    payload: Arguments<'_>,
) {
    let tail = Tail::new::<W>(payload);
    let list = with_tail::<W>(out, 4, &tail).unsigned(36);
    list.unsigned(subscription)
        .unsigned(publication)
        .details(details)
        .tail(&tail)
        .close();
}

pub(super) fn put_result<W: WriteWire>(
    out: &mut BytesMut,
    request: u64,
    details: Details<'_>,
    payload: Arguments<'_>,
) {
    put_answer::<W>(out, 50, request, details, payload);
}

fn put_answer<W: WriteWire>(
    out: &mut BytesMut,
    code: u64,
    request: u64,
    details: Details<'_>,
    payload: Arguments<'_>,
) {
    let tail = Tail::new::<W>(payload);
    let list = with_tail::<W>(out, 3, &tail)
        .unsigned(code)
        .unsigned(request);
    list.details(details).tail(&tail).close();
}

pub(super) fn put_invocation<W: WriteWire>(
    out: &mut BytesMut,
    request: u64,
    registration: u64,
    details: Details<'_>,
    payload: Arguments<'_>,
) {
    let tail = Tail::new::<W>(payload);
    let list = with_tail::<W>(out, 4, &tail).unsigned(68);
    list.unsigned(request)
        .unsigned(registration)
        .details(details)
        .tail(&tail)
        .close();
}

pub(super) fn put_error<W: WriteWire>(
    out: &mut BytesMut,
    (request_type, request): (u64, u64),
    details: Details<'_>,
    error: &str,
    payload: Arguments<'_>,
) {
    let tail = Tail::new::<W>(payload);
    let list = with_tail::<W>(out, 5, &tail)
        .unsigned(8)
        .unsigned(request_type);
    list.unsigned(request)
        .details(details)
        .text(error)
        .tail(&tail)
        .close();
}

pub(super) fn put_numbers<W: WriteWire>(out: &mut BytesMut, numbers: &[u64]) {
    out.reserve(HEADER_BYTES);
    let list = List::<W>::new(out, numbers.len());
    numbers
        .iter()
        .fold(list, |list, number| list.unsigned(*number))
        .close();
}

/// PUBLISH and CALL.
fn put_request<W: WriteWire>(
    out: &mut BytesMut,
    (code, request): (u64, u64),
    options: &Dict,
    uri: &str,
    payload: Arguments<'_>,
) {
    let tail = Tail::new::<W>(payload);
    let list = with_tail::<W>(out, 4, &tail)
        .unsigned(code)
        .unsigned(request);
    list.dict(options).text(uri).tail(&tail).close();
}

fn put_revocation<W: WriteWire>(out: &mut BytesMut, code: u64, request: u64, gone: Option<&Dict>) {
    match gone {
        None => put_numbers::<W>(out, &[code, request]),
        Some(gone) => List::<W>::new(out, 3)
            .unsigned(code)
            .unsigned(0)
            .dict(gone)
            .close(),
    }
}

pub(super) fn encode<W: WriteWire>(message: &Message) -> Bytes {
    let mut buffer = BytesMut::new();
    let out = &mut buffer;
    let code = message.code();
    match message {
        Message::Hello(m) => {
            List::<W>::new(out, 3)
                .unsigned(code)
                .text(&m.realm)
                .dict(&m.details)
                .close();
        }
        Message::Welcome(m) => {
            List::<W>::new(out, 3)
                .unsigned(code)
                .unsigned(m.session)
                .dict(&m.details)
                .close();
        }
        Message::Abort(m) => {
            let tail = Tail::new::<W>((&m.payload).into());
            let list = with_tail::<W>(out, 3, &tail)
                .unsigned(code)
                .dict(&m.details);
            list.text(&m.reason).tail(&tail).close();
        }
        Message::Challenge(m) => {
            List::<W>::new(out, 3)
                .unsigned(code)
                .text(&m.method)
                .dict(&m.extra)
                .close();
        }
        Message::Authenticate(m) => {
            List::<W>::new(out, 3)
                .unsigned(code)
                .text(&m.signature)
                .dict(&m.extra)
                .close();
        }
        Message::Goodbye(m) => {
            List::<W>::new(out, 3)
                .unsigned(code)
                .dict(&m.details)
                .text(&m.reason)
                .close();
        }
        Message::Error(m) => {
            let request = (m.request_type, m.request);
            put_error::<W>(
                out,
                request,
                Details::Dict(&m.details),
                &m.error,
                (&m.payload).into(),
            );
        }
        Message::Publish(m) => {
            put_request::<W>(
                out,
                (code, m.request),
                &m.options,
                &m.topic,
                (&m.payload).into(),
            );
        }
        Message::Published(m) => put_numbers::<W>(out, &[code, m.request, m.publication]),
        Message::Subscribe(m) => {
            put_request::<W>(
                out,
                (code, m.request),
                &m.options,
                &m.topic,
                Arguments::default(),
            );
        }
        Message::Subscribed(m) => put_numbers::<W>(out, &[code, m.request, m.subscription]),
        Message::Unsubscribe(m) => put_numbers::<W>(out, &[code, m.request, m.subscription]),
        Message::Unsubscribed(m) => {
            put_revocation::<W>(out, code, m.request, m.revocation.as_ref());
        }
        Message::Event(m) => {
            let details = Details::Dict(&m.details);
            put_event::<W>(
                out,
                m.subscription,
                m.publication,
                details,
                (&m.payload).into(),
            );
        }
        Message::Call(m) => {
            put_request::<W>(
                out,
                (code, m.request),
                &m.options,
                &m.procedure,
                (&m.payload).into(),
            );
        }
        Message::Cancel(m) => {
            List::<W>::new(out, 3)
                .unsigned(code)
                .unsigned(m.request)
                .dict(&m.options)
                .close();
        }
        Message::Result(m) => {
            put_result::<W>(
                out,
                m.request,
                Details::Dict(&m.details),
                (&m.payload).into(),
            );
        }
        Message::Register(m) => {
            put_request::<W>(
                out,
                (code, m.request),
                &m.options,
                &m.procedure,
                Arguments::default(),
            );
        }
        Message::Registered(m) => put_numbers::<W>(out, &[code, m.request, m.registration]),
        Message::Unregister(m) => put_numbers::<W>(out, &[code, m.request, m.registration]),
        Message::Unregistered(m) => {
            put_revocation::<W>(out, code, m.request, m.revocation.as_ref());
        }
        Message::Invocation(m) => {
            let details = Details::Dict(&m.details);
            put_invocation::<W>(out, m.request, m.registration, details, (&m.payload).into());
        }
        Message::Interrupt(m) => {
            List::<W>::new(out, 3)
                .unsigned(code)
                .unsigned(m.request)
                .dict(&m.options)
                .close();
        }
        Message::Yield(m) => {
            put_answer::<W>(
                out,
                code,
                m.request,
                Details::Dict(&m.options),
                (&m.payload).into(),
            );
        }
    }
    buffer.freeze()
}
