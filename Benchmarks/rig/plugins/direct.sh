DESC="no proxy: client and server over the same three veth links"
