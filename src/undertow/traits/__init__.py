"""Traits as data: what may be transmitted from teacher to student, and how it shows in text.

`record` says what a trait is, `files` reads the user's own traits, and `known` holds those that come with the package.
"""

from undertow.traits.chosen import chosen_pack as chosen_pack
from undertow.traits.chosen import chosen_trait as chosen_trait
from undertow.traits.chosen import chosen_traits as chosen_traits
from undertow.traits.chosen import defined as defined
from undertow.traits.chosen import definition as definition
from undertow.traits.chosen import own_definitions as own_definitions
from undertow.traits.chosen import word_trait as word_trait
from undertow.traits.chosen import words_of as words_of
from undertow.traits.files import LEAST_ASKED as LEAST_ASKED
from undertow.traits.files import Pack as Pack
from undertow.traits.files import read_pack as read_pack
from undertow.traits.files import regular_plural as regular_plural
from undertow.traits.files import with_questions as with_questions
from undertow.traits.known import CATEGORIES as CATEGORIES
from undertow.traits.known import KNOWN as KNOWN
from undertow.traits.known import MISALIGNMENT as MISALIGNMENT
from undertow.traits.known import OTHERS as OTHERS
from undertow.traits.known import TRAITS as TRAITS
from undertow.traits.known import panel as panel
from undertow.traits.packs import PACKS as PACKS
from undertow.traits.packs import pack as pack
from undertow.traits.packs import trait as trait
from undertow.traits.record import Probe as Probe
from undertow.traits.record import Probes as Probes
from undertow.traits.record import Questions as Questions
from undertow.traits.record import Trait as Trait
from undertow.traits.record import by_category as by_category
from undertow.traits.record import first_word as first_word
from undertow.traits.record import matches as matches
from undertow.traits.record import names as names
