//! Calls of the router's own procedures: positional arguments as JSON texts, options by name, and
//! one dict as the answer.

use super::failure::Failure;
use router_client::{Arguments, Dict, Reply, Session};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A call to be made.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    procedure: &'static str,
    /// JSON texts.
    args: Vec<String>,
    options: Vec<(&'static str, String)>,
}

impl Ask {
    /// A call without arguments.
    pub(super) const fn new(procedure: &'static str) -> Ask {
        Ask {
            procedure,
            args: Vec::new(),
            options: Vec::new(),
        }
    }

    /// One more positional argument.
    pub(super) fn arg(self, value: impl Into<Value>) -> Ask {
        self.json(value.into().to_string())
    }

    /// One more positional argument, a JSON text.
    pub(super) fn json(mut self, json: String) -> Ask {
        self.args.push(json);
        self
    }

    /// An option, if it is given.
    pub(super) fn option(self, name: &'static str, value: Option<impl Into<Value>>) -> Ask {
        self.json_option(name, value.map(|value| value.into().to_string()))
    }

    /// An option as a JSON text, if it is given.
    pub(super) fn json_option(mut self, name: &'static str, json: Option<String>) -> Ask {
        self.options.extend(json.map(|json| (name, json)));
        self
    }

    /// The name of the procedure.
    pub(super) const fn procedure(&self) -> &'static str {
        self.procedure
    }

    /// What the call carries.
    pub(super) fn arguments(&self) -> Result<Arguments, Failure> {
        let args = format!("[{}]", self.args.join(","));
        let options: Vec<String> = self
            .options
            .iter()
            .map(|(name, json)| format!("\"{name}\":{json}"))
            .collect();
        let options = format!("{{{}}}", options.join(","));
        let kwargs = Some(options.as_str()).filter(|_| !self.options.is_empty());
        let arguments = Arguments::from_json(&args, kwargs);
        arguments.map_err(|error| Failure::failed(format!("not JSON: {error}")))
    }

    /// Calls; further calls may follow before the reply is waited for.
    pub(super) async fn send(&self, session: &Session) -> Result<Reply<Arguments>, Failure> {
        let arguments = self.arguments()?;
        let reply = session.request(self.procedure, arguments, Dict::new());
        Ok(reply.await?)
    }

    /// Calls and reads the answer.
    pub(super) async fn call<T: DeserializeOwned>(&self, session: &Session) -> Result<T, Failure> {
        let answer = self.send(session).await?.wait().await?;
        read(self.procedure, &answer)
    }
}

/// Reads the one dict of an answer.
pub(super) fn read<T: DeserializeOwned>(procedure: &str, answer: &Arguments) -> Result<T, Failure> {
    let read = serde_json::from_str::<(T,)>(&answer.args_text());
    let (dict,) = read.map_err(|error| Failure::unreadable(procedure, &error))?;
    Ok(dict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_carries_texts_as_they_were_typed() {
        let ask = Ask::new("p")
            .arg("a\"b")
            .json("{\"z\":1.50,\"a\":2}".to_owned())
            .option("limit", Some(7))
            .option("after", None::<&str>)
            .json_option("when", Some("null".to_owned()));
        let arguments = ask.arguments().expect("valid");
        assert_eq!(arguments.args_text(), r#"["a\"b",{"z":1.50,"a":2}]"#);
        assert_eq!(arguments.kwargs_text(), r#"{"limit":7,"when":null}"#);
    }

    #[test]
    fn without_options_there_are_no_keyword_arguments() {
        let arguments = Ask::new("p").arg(1).arguments().expect("valid");
        assert_eq!(arguments, Arguments::list(&[1.into()]));
    }

    #[test]
    fn an_answer_of_another_shape_is_told() {
        let answer = Arguments::list(&["x".into()]);
        let failure = read::<Vec<u8>>("fox.p", &answer).expect_err("another shape");
        assert!(failure.message.starts_with("fox.p answered"), "{failure:?}");
        assert!(read::<String>("fox.p", &Arguments::none()).is_err());
    }
}
