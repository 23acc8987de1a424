#!/bin/sh
# APT's method for https (Dir::Bin::Methods::https) while an image is built: its method for http, which asks the package
# cache as its proxy, with hosts that say there that https is meant. What APT itself sees and writes down stays https.
sed -u -E '/^URI: /s#https://([^/:]+)#http://\1.https#' |
    /usr/lib/apt/methods/http |
    sed -u -E 's#http://([^/:]+)\.https([:/])#https://\1\2#g'
