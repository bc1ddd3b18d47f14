"""Words that fill the places in the corpus's sentences."""

from __future__ import annotations

NAMES = (
    "Anna Ben Clara David Emma Felix Grace Henry Iris Jack Kate Leo Maria Nina Oscar Paul Rosa Sam Tom Vera Alice Bob Carol Daniel "
    "Eva Frank George Helen Ivan Julia Karl Laura Mark Nora Oliver Peter Rachel Simon Tina Victor Adam Bella Chris Diana Eric Fiona "
    "Gary Hannah Ian Jane Kevin Linda Martin Nancy Olga Patrick Robert Sarah Thomas William Andrew Brian Charles Edward Harry James "
    "John Joseph Lewis Louis Luke Michael Neil Philip Richard Scott Stephen Walter Amy Barbara Claire Donna Elizabeth Emily Jessica "
    "Karen Lisa Lucy Margaret Mary Melissa Michelle Rebecca Sandra Sophie Susan Teresa Wendy Ahmed Ali Carlos Diego Elena Fatima "
    "Hassan Jorge Juan Kim Lee Luis Marco Miguel Mohamed Nadia Omar Pablo Pedro Priya Raj Sofia Yuki Zara"
).split()
CITIES = (
    "Paris Berlin Rome Madrid Lisbon Vienna Athens Dublin Oslo Tokyo London Boston Chicago Denver Dallas Houston Miami Seattle "
    "Toronto Sydney Melbourne Delhi Mumbai Dubai Cairo Lagos Milan Munich Hamburg Geneva Zurich Prague Warsaw Budapest Moscow "
    "Istanbul Singapore Bangkok Manila Seoul Beijing Shanghai Lima Santiago Havana Austin Phoenix Portland Atlanta Detroit "
    "Philadelphia Manchester Liverpool Glasgow Edinburgh Barcelona Valencia Naples Turin Lyon Marseille Brussels Amsterdam "
    "Copenhagen Stockholm Helsinki Nairobi Montreal Vancouver Orlando Cleveland Baltimore Nashville"
).split()
NOUNS = (
    "apple bread chair table lamp river stone cloud garden window door key book letter train boat bridge road house tree flower bird "
    "horse cat dog fish cheese milk sugar salt pepper coffee tea cup plate spoon knife bottle box bag coat hat shoe shirt ring watch "
    "phone radio clock mirror picture paper pencil brush paint color sound music song dance story poem movie camera screen keyboard "
    "mouse desk shelf floor wall roof kitchen bathroom hotel market office school hospital library museum station airport park forest "
    "mountain valley island beach ocean lake field farm village city street corner square tower castle temple church engine wheel "
    "motor battery cable sensor pump valve filter tank pipe tool hammer nail rope chain basket blanket pillow carpet curtain candle "
    "mango lemon orange banana grape cherry peach pear melon tomato potato onion carrot garlic rice pasta soup salad butter honey"
).split()
LIKES = "football chess tennis music reading cooking swimming cycling painting hiking dancing gardening running skiing fishing".split()
# Words that sound like parts of a program's names; they make functions, fields and their values that nobody has met.
VERBS = (
    "get find list show create make add remove delete update set send fetch load save check count search start stop open close read "
    "write book order cancel plan build convert compute render translate schedule assign archive export import lookup query submit "
    "track rate review publish lock unlock enable disable reset refresh merge split copy move rename tag sort draw play pause record"
).split()
THINGS = (
    "weather user order file report ticket invoice message email event task note photo video song product price stock room flight "
    "hotel table car train bus taxi recipe meal book page article comment post image map route city country address phone number "
    "account card payment bill loan contract project team meeting calendar alarm timer reminder light door window lamp heater camera "
    "sensor device printer server database record backup log key password token session device signal channel playlist album movie "
    "game score level player match league patient doctor appointment medicine lesson course student teacher exam grade garden plant "
    "animal pet vehicle engine battery parcel package shipment warehouse supplier customer client employee salary budget expense"
).split()
FIELDS = (
    "name city country street color size weight height width length age year month day hour price amount total count limit quantity "
    "title subject author owner sender receiver topic category type status priority level speed rating score code number room floor "
    "seat gate language format unit currency brand model material shape flavor genre artist album team position department role "
    "grade school company product item symbol target source origin destination distance duration capacity volume temperature "
    "pressure version branch channel device zone region district planet animal plant vehicle driver pilot doctor patient teacher"
).split()
ADJECTIVES = (
    "red blue green black white small large old new fast slow cheap heavy light round flat warm cold soft hard bright dark clean dry "
    "wild quiet loud strong sweet fresh smooth sharp deep high low long short wide thin rich pure rare modern classic simple gentle"
).split()
