//! The one table of problems: status, code, title and cure.

use axum::http::StatusCode;

/// What all problems of a kind have in common.
pub(super) struct Row {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) path: &'static str,
    pub(super) title: &'static str,
    pub(super) cure: &'static str,
}

macro_rules! problems {
    ($($kind:ident, $status:ident, $code:literal, $path:literal, $title:literal, $cure:literal;)+) => {
        /// The sorts of problems.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Kind {
            $($kind),+
        }

        impl Kind {
            /// Every kind.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$kind),+];

            pub(super) const fn row(self) -> &'static Row {
                match self {
                    $(Self::$kind => &Row {
                        status: StatusCode::$status,
                        code: $code,
                        path: concat!("/problems/", $path),
                        title: $title,
                        cure: $cure,
                    }),+
                }
            }
        }
    };
}

problems! {
    InvalidJson, BAD_REQUEST, "invalid_json", "invalid-json", "The body is not JSON",
        "Send one JSON object in UTF-8; line and column say where reading stopped.";
    InvalidField, BAD_REQUEST, "invalid_field", "invalid-field", "A field is not what it must be",
        "Correct what `field` names; the detail says what it must be.";
    IdempotencyKeyRequired, BAD_REQUEST, "idempotency_key_required", "idempotency-key-required",
        "An idempotency key is needed",
        "Send a header Idempotency-Key with a value of your own, and the same one again with every retry of this request.";
    TooManyLines, BAD_REQUEST, "too_many_lines", "too-many-lines", "Too many lines",
        "Split the basket, or have the limit raised.";
    QuantityTooLarge, BAD_REQUEST, "quantity_too_large", "quantity-too-large", "Too many units in a line",
        "Ask for fewer units, or have the limit raised.";
    QuantityTooSmall, BAD_REQUEST, "quantity_too_small", "quantity-too-small", "Too few units",
        "Ask for at least the least number that is given.";
    OutOfRange, BAD_REQUEST, "out_of_range", "out-of-range", "A quantity would leave its range",
        "Quantities go from -(2^53 - 1) to 2^53 - 1, also those of the item afterwards.";
    Unauthorized, UNAUTHORIZED, "unauthorized", "unauthorized", "A key is needed",
        "Send the header Authorization: Bearer KEY. Who runs the server makes keys with `stockhold key new`.";
    Forbidden, FORBIDDEN, "forbidden", "forbidden", "The key may not do this",
        "Take a key that has the scope that is given, or have it added to this one in the settings of the server.";
    HostNotAllowed, FORBIDDEN, "host_not_allowed", "host-not-allowed", "The host is not allowed",
        "A server without keys answers only who calls it by a loopback name, for example http://127.0.0.1:7300, and no web page of another origin.";
    NoRoute, NOT_FOUND, "no_route", "no-route", "There is nothing at this path",
        "Look the path up in the documentation of the API.";
    NotFound, NOT_FOUND, "not_found", "not-found", "There is no such hold",
        "Check the id. A hold that was never answered with success does not exist.";
    UnknownSku, NOT_FOUND, "unknown_sku", "unknown-sku", "Not a known stock item",
        "Create the item with PUT /v1/stock/{sku}, and mind its location.";
    LockNotHeld, NOT_FOUND, "lock_not_held", "lock-not-held", "Nobody has the lock",
        "It is free, or never was taken.";
    MethodNotAllowed, METHOD_NOT_ALLOWED, "method_not_allowed", "method-not-allowed", "The path has no such method",
        "Use one of the methods that the header Allow names.";
    NotAcceptable, NOT_ACCEPTABLE, "not_acceptable", "not-acceptable", "The answer would not be accepted",
        "Accept application/json.";
    RequestTimeout, REQUEST_TIMEOUT, "request_timeout", "request-timeout", "The body came too slowly",
        "Send the whole body in the time that the detail says.";
    InsufficientStock, CONFLICT, "insufficient_stock", "insufficient-stock", "Not enough stock",
        "Ask for fewer units, or try again after next_due_at, when a hold may have died.";
    AlreadyConfirmed, CONFLICT, "already_confirmed", "already-confirmed", "The hold is already confirmed",
        "What was confirmed stands in the answer. To give units back, cancel.";
    AlreadyReleased, CONFLICT, "already_released", "already-released", "The hold is already released",
        "Place a new hold.";
    Revoked, CONFLICT, "revoked", "revoked", "The hold was revoked",
        "An operator took the units away. Place a new hold.";
    AlreadyCancelled, CONFLICT, "already_cancelled", "already-cancelled", "The hold is already cancelled",
        "Place a new hold.";
    AlreadyShipped, CONFLICT, "already_shipped", "already-shipped", "The hold is already shipped",
        "Units that left the house come back by a receive.";
    NotConfirmed, CONFLICT, "not_confirmed", "not-confirmed", "The hold is not confirmed",
        "Confirm it first.";
    NothingOpen, CONFLICT, "nothing_open", "nothing-open", "Nothing of the hold is open",
        "All its units are shipped or cancelled already.";
    MaxLifetime, CONFLICT, "max_lifetime", "max-lifetime", "The hold cannot live any longer",
        "Confirm it before its deadline, or place a new hold.";
    AlreadyExists, CONFLICT, "already_exists", "already-exists", "The item exists with other quantities",
        "Leave on_hand out, and change it with an adjustment; a list of what was counted is loaded with mode=count.";
    WouldGoBelow, CONFLICT, "would_go_below", "would-go-below", "Less would be left than may be",
        "Take fewer units away, or count what is there.";
    OnHandDiffers, CONFLICT, "on_hand_differs", "on-hand-differs", "The item has another number on hand",
        "Something moved meanwhile: count again.";
    HoldEnded, GONE, "hold_ended", "hold-ended", "The hold of this key has ended",
        "The hold stands in the answer. Place a new one under a new key.";
    LockBusy, CONFLICT, "lock_busy", "lock-busy", "Somebody else has the lock",
        "Ask again after expires_in_ms with a new token, or wait for your turn with wait_ms.";
    LeaseLost, CONFLICT, "lease_lost", "lease-lost", "The lease is not yours any more",
        "Stop what you do under it. It is over, or somebody else has the lock by now; acquire it anew.";
    HoldExpired, GONE, "hold_expired", "hold-expired", "The hold has expired",
        "Place a new hold; if it is paid already, confirm with on_expired: rehold.";
    BodyTooLarge, PAYLOAD_TOO_LARGE, "body_too_large", "body-too-large", "The body is too large",
        "Send at most as many bytes as the detail says.";
    UnsupportedMediaType, UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "unsupported-media-type", "The body is of another media type",
        "Send the header Content-Type with a media type that the path takes: application/json, or that of a list of stock.";
    NotInHold, UNPROCESSABLE_ENTITY, "not_in_hold", "not-in-hold", "The hold has no such line",
        "Name only items of the hold, and mind their location.";
    MoreThanHeld, UNPROCESSABLE_ENTITY, "more_than_held", "more-than-held", "More than is held",
        "Confirm at most the units that are held.";
    MoreThanOpen, UNPROCESSABLE_ENTITY, "more_than_open", "more-than-open", "More than is open",
        "Ship or cancel at most the units that are open.";
    IdempotencyKeyReused, UNPROCESSABLE_ENTITY, "idempotency_key_reused", "idempotency-key-reused", "The idempotency key was used for another request",
        "A key belongs to one request. Take a new key for a new request, and repeat a request without any change.";
    Overloaded, TOO_MANY_REQUESTS, "overloaded", "overloaded", "Too much is waiting already",
        "Nothing was done. Try again after Retry-After.";
    Internal, INTERNAL_SERVER_ERROR, "internal", "internal", "Something is wrong inside",
        "Do not repeat the request. The log of the server says more under the request_id.";
    Unavailable, SERVICE_UNAVAILABLE, "unavailable", "unavailable", "The service is not available",
        "Try again after Retry-After, with the same idempotency key.";
}

impl Kind {
    pub(crate) const fn status(self) -> StatusCode {
        self.row().status
    }

    /// The stable word for it.
    pub(crate) const fn code(self) -> &'static str {
        self.row().code
    }

    /// Where its page is.
    pub(crate) const fn path(self) -> &'static str {
        self.row().path
    }

    pub(crate) const fn title(self) -> &'static str {
        self.row().title
    }

    /// What to do about it.
    pub(crate) const fn cure(self) -> &'static str {
        self.row().cure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_problem_is_its_code() {
        for kind in Kind::ALL {
            let Row { code, path, .. } = kind.row();
            assert_eq!(*path, format!("/problems/{}", code.replace('_', "-")));
        }
    }

    #[test]
    fn no_two_problems_share_a_code() {
        let mut codes: Vec<_> = Kind::ALL.iter().map(|kind| kind.row().code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Kind::ALL.len());
    }
}
