from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Event(_message.Message):
    __slots__ = ("item_id", "timestamp", "type")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    timestamp: float
    type: str
    def __init__(self, item_id: _Optional[str] = ..., timestamp: _Optional[float] = ..., type: _Optional[str] = ...) -> None: ...

class ItemIds(_message.Message):
    __slots__ = ("item_ids",)
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, item_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class Filters(_message.Message):
    __slots__ = ("categories", "brands", "price_min", "price_max", "in_stock")
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    BRANDS_FIELD_NUMBER: _ClassVar[int]
    PRICE_MIN_FIELD_NUMBER: _ClassVar[int]
    PRICE_MAX_FIELD_NUMBER: _ClassVar[int]
    IN_STOCK_FIELD_NUMBER: _ClassVar[int]
    categories: _containers.RepeatedScalarFieldContainer[str]
    brands: _containers.RepeatedScalarFieldContainer[str]
    price_min: float
    price_max: float
    in_stock: bool
    def __init__(self, categories: _Optional[_Iterable[str]] = ..., brands: _Optional[_Iterable[str]] = ..., price_min: _Optional[float] = ..., price_max: _Optional[float] = ..., in_stock: _Optional[bool] = ...) -> None: ...

class RecommendRequest(_message.Message):
    __slots__ = ("history", "events", "k", "candidates", "exclude", "filters", "deadline_ms", "explain", "fields", "user_id", "allow_seen", "rerank")
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ALLOW_SEEN_FIELD_NUMBER: _ClassVar[int]
    RERANK_FIELD_NUMBER: _ClassVar[int]
    history: _containers.RepeatedScalarFieldContainer[str]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    k: int
    candidates: ItemIds
    exclude: _containers.RepeatedScalarFieldContainer[str]
    filters: Filters
    deadline_ms: float
    explain: bool
    fields: _containers.RepeatedScalarFieldContainer[str]
    user_id: str
    allow_seen: bool
    rerank: bool
    def __init__(self, history: _Optional[_Iterable[str]] = ..., events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ..., k: _Optional[int] = ..., candidates: _Optional[_Union[ItemIds, _Mapping]] = ..., exclude: _Optional[_Iterable[str]] = ..., filters: _Optional[_Union[Filters, _Mapping]] = ..., deadline_ms: _Optional[float] = ..., explain: _Optional[bool] = ..., fields: _Optional[_Iterable[str]] = ..., user_id: _Optional[str] = ..., allow_seen: _Optional[bool] = ..., rerank: _Optional[bool] = ...) -> None: ...

class AttributeValue(_message.Message):
    __slots__ = ("text", "number", "integer", "flag")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    INTEGER_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    text: str
    number: float
    integer: int
    flag: bool
    def __init__(self, text: _Optional[str] = ..., number: _Optional[float] = ..., integer: _Optional[int] = ..., flag: _Optional[bool] = ...) -> None: ...

class RecommendedItem(_message.Message):
    __slots__ = ("item_id", "score", "rank", "reason", "because", "fields")
    class FieldsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: AttributeValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[AttributeValue, _Mapping]] = ...) -> None: ...
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BECAUSE_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    score: float
    rank: int
    reason: str
    because: str
    fields: _containers.MessageMap[str, AttributeValue]
    def __init__(self, item_id: _Optional[str] = ..., score: _Optional[float] = ..., rank: _Optional[int] = ..., reason: _Optional[str] = ..., because: _Optional[str] = ..., fields: _Optional[_Mapping[str, AttributeValue]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("queue_ms", "encode_ms", "engine_ms", "post_ms", "total_ms", "rerank_ms")
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    ENCODE_MS_FIELD_NUMBER: _ClassVar[int]
    ENGINE_MS_FIELD_NUMBER: _ClassVar[int]
    POST_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    RERANK_MS_FIELD_NUMBER: _ClassVar[int]
    queue_ms: float
    encode_ms: float
    engine_ms: float
    post_ms: float
    total_ms: float
    rerank_ms: float
    def __init__(self, queue_ms: _Optional[float] = ..., encode_ms: _Optional[float] = ..., engine_ms: _Optional[float] = ..., post_ms: _Optional[float] = ..., total_ms: _Optional[float] = ..., rerank_ms: _Optional[float] = ...) -> None: ...

class RecommendResponse(_message.Message):
    __slots__ = ("items", "served_by", "model", "unknown_items", "timings_ms", "fallback_reason", "unknown_candidates", "ranked_by")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    SERVED_BY_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_ITEMS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_MS_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_REASON_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    RANKED_BY_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[RecommendedItem]
    served_by: str
    model: Model
    unknown_items: int
    timings_ms: Timings
    fallback_reason: str
    unknown_candidates: int
    ranked_by: str
    def __init__(self, items: _Optional[_Iterable[_Union[RecommendedItem, _Mapping]]] = ..., served_by: _Optional[str] = ..., model: _Optional[_Union[Model, _Mapping]] = ..., unknown_items: _Optional[int] = ..., timings_ms: _Optional[_Union[Timings, _Mapping]] = ..., fallback_reason: _Optional[str] = ..., unknown_candidates: _Optional[int] = ..., ranked_by: _Optional[str] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message", "field", "limit", "request_id", "retry_after_ms")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    field: str
    limit: str
    request_id: str
    retry_after_ms: int
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., field: _Optional[str] = ..., limit: _Optional[str] = ..., request_id: _Optional[str] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class RecommendBatchRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[RecommendRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[RecommendRequest, _Mapping]]] = ...) -> None: ...

class RecommendResult(_message.Message):
    __slots__ = ("response", "error")
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    response: RecommendResponse
    error: Error
    def __init__(self, response: _Optional[_Union[RecommendResponse, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class RecommendBatchResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[RecommendResult]
    def __init__(self, results: _Optional[_Iterable[_Union[RecommendResult, _Mapping]]] = ...) -> None: ...

class ProductAttribute(_message.Message):
    __slots__ = ("name", "values")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    name: str
    values: _containers.RepeatedCompositeFieldContainer[AttributeValue]
    def __init__(self, name: _Optional[str] = ..., values: _Optional[_Iterable[_Union[AttributeValue, _Mapping]]] = ...) -> None: ...

class ProductRecord(_message.Message):
    __slots__ = ("title", "brand", "category", "attributes", "price", "currency", "description")
    TITLE_FIELD_NUMBER: _ClassVar[int]
    BRAND_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    title: str
    brand: str
    category: str
    attributes: _containers.RepeatedCompositeFieldContainer[ProductAttribute]
    price: float
    currency: str
    description: str
    def __init__(self, title: _Optional[str] = ..., brand: _Optional[str] = ..., category: _Optional[str] = ..., attributes: _Optional[_Iterable[_Union[ProductAttribute, _Mapping]]] = ..., price: _Optional[float] = ..., currency: _Optional[str] = ..., description: _Optional[str] = ...) -> None: ...

class ProductCopyRequest(_message.Message):
    __slots__ = ("product", "channel", "language", "tone", "audience", "keywords", "variants", "max_words", "seed", "fresh", "deadline_ms")
    PRODUCT_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    TONE_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    KEYWORDS_FIELD_NUMBER: _ClassVar[int]
    VARIANTS_FIELD_NUMBER: _ClassVar[int]
    MAX_WORDS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    FRESH_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    product: ProductRecord
    channel: str
    language: str
    tone: str
    audience: str
    keywords: _containers.RepeatedScalarFieldContainer[str]
    variants: int
    max_words: int
    seed: int
    fresh: bool
    deadline_ms: float
    def __init__(self, product: _Optional[_Union[ProductRecord, _Mapping]] = ..., channel: _Optional[str] = ..., language: _Optional[str] = ..., tone: _Optional[str] = ..., audience: _Optional[str] = ..., keywords: _Optional[_Iterable[str]] = ..., variants: _Optional[int] = ..., max_words: _Optional[int] = ..., seed: _Optional[int] = ..., fresh: _Optional[bool] = ..., deadline_ms: _Optional[float] = ...) -> None: ...

class CopyClaim(_message.Message):
    __slots__ = ("kind", "text", "part", "start", "end", "source", "quote")
    KIND_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    QUOTE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    text: str
    part: str
    start: int
    end: int
    source: str
    quote: str
    def __init__(self, kind: _Optional[str] = ..., text: _Optional[str] = ..., part: _Optional[str] = ..., start: _Optional[int] = ..., end: _Optional[int] = ..., source: _Optional[str] = ..., quote: _Optional[str] = ...) -> None: ...

class RefusedClaim(_message.Message):
    __slots__ = ("kind", "text", "why")
    KIND_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    kind: str
    text: str
    why: str
    def __init__(self, kind: _Optional[str] = ..., text: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class CopyChecks(_message.Message):
    __slots__ = ("claims", "refused", "keywords_missing", "effort")
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    KEYWORDS_MISSING_FIELD_NUMBER: _ClassVar[int]
    EFFORT_FIELD_NUMBER: _ClassVar[int]
    claims: _containers.RepeatedCompositeFieldContainer[CopyClaim]
    refused: _containers.RepeatedCompositeFieldContainer[RefusedClaim]
    keywords_missing: _containers.RepeatedScalarFieldContainer[str]
    effort: str
    def __init__(self, claims: _Optional[_Iterable[_Union[CopyClaim, _Mapping]]] = ..., refused: _Optional[_Iterable[_Union[RefusedClaim, _Mapping]]] = ..., keywords_missing: _Optional[_Iterable[str]] = ..., effort: _Optional[str] = ...) -> None: ...

class CopyVariant(_message.Message):
    __slots__ = ("headline", "description", "bullets", "checks", "served_by")
    HEADLINE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    BULLETS_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    SERVED_BY_FIELD_NUMBER: _ClassVar[int]
    headline: str
    description: str
    bullets: _containers.RepeatedScalarFieldContainer[str]
    checks: CopyChecks
    served_by: str
    def __init__(self, headline: _Optional[str] = ..., description: _Optional[str] = ..., bullets: _Optional[_Iterable[str]] = ..., checks: _Optional[_Union[CopyChecks, _Mapping]] = ..., served_by: _Optional[str] = ...) -> None: ...

class CopyUsage(_message.Message):
    __slots__ = ("prompt_tokens", "completion_tokens", "cached_tokens")
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    def __init__(self, prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., cached_tokens: _Optional[int] = ...) -> None: ...

class CopyTimings(_message.Message):
    __slots__ = ("queue_ms", "engine_ms", "check_ms", "total_ms")
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    ENGINE_MS_FIELD_NUMBER: _ClassVar[int]
    CHECK_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    queue_ms: float
    engine_ms: float
    check_ms: float
    total_ms: float
    def __init__(self, queue_ms: _Optional[float] = ..., engine_ms: _Optional[float] = ..., check_ms: _Optional[float] = ..., total_ms: _Optional[float] = ...) -> None: ...

class ProductCopyEnd(_message.Message):
    __slots__ = ("served_by", "model", "usage", "timings_ms", "fallback_reason")
    SERVED_BY_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_MS_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_REASON_FIELD_NUMBER: _ClassVar[int]
    served_by: str
    model: Model
    usage: CopyUsage
    timings_ms: CopyTimings
    fallback_reason: str
    def __init__(self, served_by: _Optional[str] = ..., model: _Optional[_Union[Model, _Mapping]] = ..., usage: _Optional[_Union[CopyUsage, _Mapping]] = ..., timings_ms: _Optional[_Union[CopyTimings, _Mapping]] = ..., fallback_reason: _Optional[str] = ...) -> None: ...

class ProductCopyResponse(_message.Message):
    __slots__ = ("variants", "end")
    VARIANTS_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    variants: _containers.RepeatedCompositeFieldContainer[CopyVariant]
    end: ProductCopyEnd
    def __init__(self, variants: _Optional[_Iterable[_Union[CopyVariant, _Mapping]]] = ..., end: _Optional[_Union[ProductCopyEnd, _Mapping]] = ...) -> None: ...

class CopyPart(_message.Message):
    __slots__ = ("variant", "name", "text", "claims")
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    variant: int
    name: str
    text: str
    claims: _containers.RepeatedCompositeFieldContainer[CopyClaim]
    def __init__(self, variant: _Optional[int] = ..., name: _Optional[str] = ..., text: _Optional[str] = ..., claims: _Optional[_Iterable[_Union[CopyClaim, _Mapping]]] = ...) -> None: ...

class CopyVariantChecked(_message.Message):
    __slots__ = ("variant", "checks", "served_by")
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    SERVED_BY_FIELD_NUMBER: _ClassVar[int]
    variant: int
    checks: CopyChecks
    served_by: str
    def __init__(self, variant: _Optional[int] = ..., checks: _Optional[_Union[CopyChecks, _Mapping]] = ..., served_by: _Optional[str] = ...) -> None: ...

class ProductCopyEvent(_message.Message):
    __slots__ = ("part", "checked", "end")
    PART_FIELD_NUMBER: _ClassVar[int]
    CHECKED_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    part: CopyPart
    checked: CopyVariantChecked
    end: ProductCopyEnd
    def __init__(self, part: _Optional[_Union[CopyPart, _Mapping]] = ..., checked: _Optional[_Union[CopyVariantChecked, _Mapping]] = ..., end: _Optional[_Union[ProductCopyEnd, _Mapping]] = ...) -> None: ...

class SupportMessage(_message.Message):
    __slots__ = ("role", "content")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    role: str
    content: str
    def __init__(self, role: _Optional[str] = ..., content: _Optional[str] = ...) -> None: ...

class SupportOrderItem(_message.Message):
    __slots__ = ("title", "quantity", "item_id")
    TITLE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    title: str
    quantity: int
    item_id: str
    def __init__(self, title: _Optional[str] = ..., quantity: _Optional[int] = ..., item_id: _Optional[str] = ...) -> None: ...

class SupportOrder(_message.Message):
    __slots__ = ("order_id", "status", "placed_on", "shipped_on", "delivered_on", "expected_on", "carrier", "tracking_number", "tracking_url", "items", "total", "currency", "refund_status")
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PLACED_ON_FIELD_NUMBER: _ClassVar[int]
    SHIPPED_ON_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_ON_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_ON_FIELD_NUMBER: _ClassVar[int]
    CARRIER_FIELD_NUMBER: _ClassVar[int]
    TRACKING_NUMBER_FIELD_NUMBER: _ClassVar[int]
    TRACKING_URL_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    REFUND_STATUS_FIELD_NUMBER: _ClassVar[int]
    order_id: str
    status: str
    placed_on: str
    shipped_on: str
    delivered_on: str
    expected_on: str
    carrier: str
    tracking_number: str
    tracking_url: str
    items: _containers.RepeatedCompositeFieldContainer[SupportOrderItem]
    total: float
    currency: str
    refund_status: str
    def __init__(self, order_id: _Optional[str] = ..., status: _Optional[str] = ..., placed_on: _Optional[str] = ..., shipped_on: _Optional[str] = ..., delivered_on: _Optional[str] = ..., expected_on: _Optional[str] = ..., carrier: _Optional[str] = ..., tracking_number: _Optional[str] = ..., tracking_url: _Optional[str] = ..., items: _Optional[_Iterable[_Union[SupportOrderItem, _Mapping]]] = ..., total: _Optional[float] = ..., currency: _Optional[str] = ..., refund_status: _Optional[str] = ...) -> None: ...

class CustomerServiceRequest(_message.Message):
    __slots__ = ("messages", "order", "locale", "generate", "deadline_ms")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    LOCALE_FIELD_NUMBER: _ClassVar[int]
    GENERATE_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[SupportMessage]
    order: SupportOrder
    locale: str
    generate: bool
    deadline_ms: float
    def __init__(self, messages: _Optional[_Iterable[_Union[SupportMessage, _Mapping]]] = ..., order: _Optional[_Union[SupportOrder, _Mapping]] = ..., locale: _Optional[str] = ..., generate: _Optional[bool] = ..., deadline_ms: _Optional[float] = ...) -> None: ...

class SupportIntent(_message.Message):
    __slots__ = ("label", "confidence")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    label: str
    confidence: float
    def __init__(self, label: _Optional[str] = ..., confidence: _Optional[float] = ...) -> None: ...

class SupportEntity(_message.Message):
    __slots__ = ("kind", "text", "value", "start", "end")
    KIND_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    kind: str
    text: str
    value: str
    start: int
    end: int
    def __init__(self, kind: _Optional[str] = ..., text: _Optional[str] = ..., value: _Optional[str] = ..., start: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class SupportSource(_message.Message):
    __slots__ = ("id", "title", "quote", "url")
    ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    QUOTE_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    id: str
    title: str
    quote: str
    url: str
    def __init__(self, id: _Optional[str] = ..., title: _Optional[str] = ..., quote: _Optional[str] = ..., url: _Optional[str] = ...) -> None: ...

class SupportHandover(_message.Message):
    __slots__ = ("reason", "summary", "evidence")
    REASON_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    summary: str
    evidence: _containers.RepeatedCompositeFieldContainer[SupportSource]
    def __init__(self, reason: _Optional[str] = ..., summary: _Optional[str] = ..., evidence: _Optional[_Iterable[_Union[SupportSource, _Mapping]]] = ...) -> None: ...

class SupportTimings(_message.Message):
    __slots__ = ("queue_ms", "encode_ms", "retrieve_ms", "answer_ms", "check_ms", "total_ms")
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    ENCODE_MS_FIELD_NUMBER: _ClassVar[int]
    RETRIEVE_MS_FIELD_NUMBER: _ClassVar[int]
    ANSWER_MS_FIELD_NUMBER: _ClassVar[int]
    CHECK_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    queue_ms: float
    encode_ms: float
    retrieve_ms: float
    answer_ms: float
    check_ms: float
    total_ms: float
    def __init__(self, queue_ms: _Optional[float] = ..., encode_ms: _Optional[float] = ..., retrieve_ms: _Optional[float] = ..., answer_ms: _Optional[float] = ..., check_ms: _Optional[float] = ..., total_ms: _Optional[float] = ...) -> None: ...

class SupportHeard(_message.Message):
    __slots__ = ("intent", "language", "entities")
    INTENT_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    intent: SupportIntent
    language: str
    entities: _containers.RepeatedCompositeFieldContainer[SupportEntity]
    def __init__(self, intent: _Optional[_Union[SupportIntent, _Mapping]] = ..., language: _Optional[str] = ..., entities: _Optional[_Iterable[_Union[SupportEntity, _Mapping]]] = ...) -> None: ...

class SupportSources(_message.Message):
    __slots__ = ("sources", "knowledge_epoch")
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    KNOWLEDGE_EPOCH_FIELD_NUMBER: _ClassVar[int]
    sources: _containers.RepeatedCompositeFieldContainer[SupportSource]
    knowledge_epoch: int
    def __init__(self, sources: _Optional[_Iterable[_Union[SupportSource, _Mapping]]] = ..., knowledge_epoch: _Optional[int] = ...) -> None: ...

class SupportEnd(_message.Message):
    __slots__ = ("handover", "served_by", "model", "missing", "timings_ms", "confidence")
    HANDOVER_FIELD_NUMBER: _ClassVar[int]
    SERVED_BY_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_MS_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    handover: SupportHandover
    served_by: str
    model: Model
    missing: _containers.RepeatedScalarFieldContainer[str]
    timings_ms: SupportTimings
    confidence: float
    def __init__(self, handover: _Optional[_Union[SupportHandover, _Mapping]] = ..., served_by: _Optional[str] = ..., model: _Optional[_Union[Model, _Mapping]] = ..., missing: _Optional[_Iterable[str]] = ..., timings_ms: _Optional[_Union[SupportTimings, _Mapping]] = ..., confidence: _Optional[float] = ...) -> None: ...

class CustomerServiceResponse(_message.Message):
    __slots__ = ("answer", "heard", "sources", "end")
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    HEARD_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    answer: str
    heard: SupportHeard
    sources: SupportSources
    end: SupportEnd
    def __init__(self, answer: _Optional[str] = ..., heard: _Optional[_Union[SupportHeard, _Mapping]] = ..., sources: _Optional[_Union[SupportSources, _Mapping]] = ..., end: _Optional[_Union[SupportEnd, _Mapping]] = ...) -> None: ...

class CustomerServiceEvent(_message.Message):
    __slots__ = ("heard", "sources", "answer", "end")
    HEARD_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    heard: SupportHeard
    sources: SupportSources
    answer: str
    end: SupportEnd
    def __init__(self, heard: _Optional[_Union[SupportHeard, _Mapping]] = ..., sources: _Optional[_Union[SupportSources, _Mapping]] = ..., answer: _Optional[str] = ..., end: _Optional[_Union[SupportEnd, _Mapping]] = ...) -> None: ...
