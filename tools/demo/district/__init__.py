"""Many homes, two administrators, two suppliers: a running street that is taken into DC-nets."""
