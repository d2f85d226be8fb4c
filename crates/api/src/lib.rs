//! The HTTP interface: /v1, AuthZEN, health, metrics, OpenAPI
