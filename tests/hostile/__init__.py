"""Files from people who mean harm, or do not know what they do: a table of them, and a fuzzer."""
