//! Their list of properties as our set, and ours as their list.

use std::num::{NonZeroU16, NonZeroU32};

use mqtt_protocol_core::mqtt::packet::{
    AssignedClientIdentifier, AuthenticationData, AuthenticationMethod, ContentType,
    CorrelationData, MaximumPacketSize, MaximumQos, MessageExpiryInterval, PayloadFormat,
    PayloadFormatIndicator, Property, ReasonString, ReceiveMaximum, RequestProblemInformation,
    RequestResponseInformation, ResponseInformation, ResponseTopic, RetainAvailable,
    ServerKeepAlive, ServerReference, SessionExpiryInterval, SharedSubscriptionAvailable,
    SubscriptionIdentifier, SubscriptionIdentifierAvailable, TopicAlias, TopicAliasMaximum,
    UserProperty, WildcardSubscriptionAvailable, WillDelayInterval,
};
use mqtt_protocol_core::mqtt::result_code::MqttError;
use protocols::mqtt::packet::{OptProperties, Properties, QoS, Secret};

use super::{blob, text};

/// Their properties as ours.
pub fn translated(properties: &[Property]) -> OptProperties {
    let mut set = Properties::default();
    for property in properties {
        put(&mut set, property);
    }
    set.into_optional()
}

fn put(set: &mut Properties, property: &Property) {
    let flag = |value: u8| Some(value == 1);
    match property {
        Property::PayloadFormatIndicator(p) => set.payload_format_indicator = flag(p.val()),
        Property::MessageExpiryInterval(p) => set.message_expiry_interval = Some(p.val()),
        Property::ContentType(p) => set.content_type = Some(text(p.val())),
        Property::ResponseTopic(p) => set.response_topic = Some(text(p.val())),
        Property::CorrelationData(p) => set.correlation_data = Some(blob(p.val())),
        Property::SubscriptionIdentifier(p) => set.subscription_identifiers.push(p.val()),
        Property::SessionExpiryInterval(p) => set.session_expiry_interval = Some(p.val()),
        Property::AssignedClientIdentifier(p) => {
            set.assigned_client_identifier = Some(text(p.val()));
        }
        Property::ServerKeepAlive(p) => set.server_keep_alive = Some(p.val()),
        Property::AuthenticationMethod(p) => set.authentication_method = Some(text(p.val())),
        Property::AuthenticationData(p) => set.authentication_data = Some(Secret(blob(p.val()))),
        Property::RequestProblemInformation(p) => set.request_problem_information = flag(p.val()),
        Property::WillDelayInterval(p) => set.will_delay_interval = Some(p.val()),
        Property::RequestResponseInformation(p) => {
            set.request_response_information = flag(p.val());
        }
        Property::ResponseInformation(p) => set.response_information = Some(text(p.val())),
        Property::ServerReference(p) => set.server_reference = Some(text(p.val())),
        Property::ReasonString(p) => set.reason_string = Some(text(p.val())),
        Property::ReceiveMaximum(p) => set.receive_maximum = NonZeroU16::new(p.val()),
        Property::TopicAliasMaximum(p) => set.topic_alias_maximum = Some(p.val()),
        Property::TopicAlias(p) => set.topic_alias = NonZeroU16::new(p.val()),
        Property::MaximumQos(p) => set.maximum_qos = QoS::from_u8(p.val()),
        Property::RetainAvailable(p) => set.retain_available = flag(p.val()),
        Property::UserProperty(p) => {
            set.user_properties.push((text(p.key()), text(p.val())));
        }
        Property::MaximumPacketSize(p) => set.maximum_packet_size = NonZeroU32::new(p.val()),
        Property::WildcardSubscriptionAvailable(p) => {
            set.wildcard_subscription_available = flag(p.val());
        }
        Property::SubscriptionIdentifierAvailable(p) => {
            set.subscription_identifiers_available = flag(p.val());
        }
        Property::SharedSubscriptionAvailable(p) => {
            set.shared_subscription_available = flag(p.val());
        }
    }
}

/// Our properties as theirs, from the highest identifier down: an order we never write.
pub fn listed(set: &OptProperties) -> Result<Vec<Property>, MqttError> {
    let Some(set) = set else {
        return Ok(Vec::new());
    };
    let mut list = List(Vec::new());
    list.flag(
        set.shared_subscription_available,
        SharedSubscriptionAvailable::new,
    )?;
    list.flag(
        set.subscription_identifiers_available,
        SubscriptionIdentifierAvailable::new,
    )?;
    list.flag(
        set.wildcard_subscription_available,
        WildcardSubscriptionAvailable::new,
    )?;
    list.add(
        set.maximum_packet_size.map(NonZeroU32::get),
        MaximumPacketSize::new,
    )?;
    for (key, value) in &set.user_properties {
        list.0.push(UserProperty::new(&**key, &**value)?.into());
    }
    list.flag(set.retain_available, RetainAvailable::new)?;
    list.add(set.maximum_qos.map(|qos| qos as u8), MaximumQos::new)?;
    list.add(set.topic_alias.map(NonZeroU16::get), TopicAlias::new)?;
    list.add(set.topic_alias_maximum, TopicAliasMaximum::new)?;
    list.add(
        set.receive_maximum.map(NonZeroU16::get),
        ReceiveMaximum::new,
    )?;
    list.add(set.reason_string.as_deref(), ReasonString::new)?;
    list.add(set.server_reference.as_deref(), ServerReference::new)?;
    list.add(
        set.response_information.as_deref(),
        ResponseInformation::new,
    )?;
    list.flag(
        set.request_response_information,
        RequestResponseInformation::new,
    )?;
    list.add(set.will_delay_interval, WillDelayInterval::new)?;
    list.flag(
        set.request_problem_information,
        RequestProblemInformation::new,
    )?;
    let data = set.authentication_data.as_ref();
    list.add(data.map(|data| data.0.to_vec()), AuthenticationData::new)?;
    list.add(
        set.authentication_method.as_deref(),
        AuthenticationMethod::new,
    )?;
    list.add(set.server_keep_alive, ServerKeepAlive::new)?;
    list.add(
        set.assigned_client_identifier.as_deref(),
        AssignedClientIdentifier::new,
    )?;
    list.add(set.session_expiry_interval, SessionExpiryInterval::new)?;
    for id in &set.subscription_identifiers {
        list.0.push(SubscriptionIdentifier::new(*id)?.into());
    }
    let data = set.correlation_data.as_ref();
    list.add(data.map(|data| data.to_vec()), CorrelationData::new)?;
    list.add(set.response_topic.as_deref(), ResponseTopic::new)?;
    list.add(set.content_type.as_deref(), ContentType::new)?;
    list.add(set.message_expiry_interval, MessageExpiryInterval::new)?;
    let format = set.payload_format_indicator.map(|is_text| {
        if is_text {
            PayloadFormat::String
        } else {
            PayloadFormat::Binary
        }
    });
    list.add(format, PayloadFormatIndicator::new)?;
    Ok(list.0)
}

struct List(Vec<Property>);

impl List {
    fn add<V, P: Into<Property>>(
        &mut self,
        value: Option<V>,
        new: impl FnOnce(V) -> Result<P, MqttError>,
    ) -> Result<(), MqttError> {
        if let Some(value) = value {
            self.0.push(new(value)?.into());
        }
        Ok(())
    }

    fn flag<P: Into<Property>>(
        &mut self,
        value: Option<bool>,
        new: impl FnOnce(u8) -> Result<P, MqttError>,
    ) -> Result<(), MqttError> {
        self.add(value.map(u8::from), new)
    }
}
