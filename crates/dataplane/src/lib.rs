//! What runs in each role of services: data and egress.
