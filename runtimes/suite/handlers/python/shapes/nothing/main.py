"""Defines nothing that handles."""

answer = 42
