"""What the generated shop sells, in English and Chinese: the category tree, its words, materials, colours and brands.

Synonyms and needs of a leaf are what shoppers type and no title of the leaf says: only meaning finds it by them.
"""

from dataclasses import dataclass

Pair = tuple[str, str]


@dataclass(frozen=True)
class Leaf:
    """One leaf of the category tree; texts are (English, Chinese) pairs."""

    path: tuple[Pair, Pair, Pair]
    # Nouns of the title.
    kinds: tuple[Pair, ...]
    # Properties named in the title.
    features: tuple[Pair, ...]
    # The same thing in other words, and the wish behind it.
    synonyms: tuple[Pair, ...]
    needs: tuple[Pair, ...]
    # One sentence of what it is good for, after "Made for" / "适合".
    use: Pair
    # Key into MATERIALS; empty where a material says nothing.
    material: str
    # Key into SIZES; empty where there is one size.
    size: str
    # Median price in euros.
    price: float
    # Month of most demand (1 to 12) and how much it exceeds the mean (0: the year round).
    peak: int
    season: float
    # Chance that a purchase is followed by another of the same item.
    replenished: float
    returned: float
    # Electronics and machines carry a model number.
    modelled: bool
    # Leaf (English name) that goes with it.
    goes_with: str


MATERIALS: dict[str, tuple[Pair, ...]] = {
    "fabric": (("cotton", "纯棉"), ("linen", "亚麻"), ("wool", "羊毛"), ("velvet", "天鹅绒"), ("polyester", "涤纶")),
    "hide": (("leather", "真皮"), ("suede", "绒面"), ("canvas", "帆布"), ("mesh", "网布"), ("nylon", "尼龙")),
    "wood": (("oak", "橡木"), ("walnut", "胡桃木"), ("pine", "松木"), ("bamboo", "竹制"), ("steel", "钢制")),
    "kitchen": (("stainless steel", "不锈钢"), ("cast iron", "铸铁"), ("ceramic", "陶瓷"), ("glass", "玻璃")),
    "shell": (("aluminium", "铝合金"), ("plastic", "塑料"), ("carbon", "碳纤维"), ("silicone", "硅胶")),
}
SIZES: dict[str, tuple[Pair, ...]] = {
    "clothes": (("S", "S码"), ("M", "M码"), ("L", "L码"), ("XL", "XL码"), ("XXL", "XXL码")),
    "shoes": tuple((f"EU {n}", f"{n}码") for n in range(36, 47)),
    "seats": (("2-seat", "双人位"), ("3-seat", "三人位"), ("4-seat", "四人位")),
    "bed": (("90 x 200 cm", "90x200厘米"), ("140 x 200 cm", "140x200厘米"), ("180 x 200 cm", "180x200厘米")),
    "litres": (("1 l", "1升"), ("1.5 l", "1.5升"), ("2.5 l", "2.5升"), ("4 l", "4升"), ("20 l", "20升")),
    "inches": (("13 inch", "13英寸"), ("15 inch", "15英寸"), ("27 inch", "27英寸"), ("32 inch", "32英寸")),
    "grams": (("250 g", "250克"), ("500 g", "500克"), ("1 kg", "1公斤"), ("3 kg", "3公斤")),
    "millilitres": (("50 ml", "50毫升"), ("200 ml", "200毫升"), ("400 ml", "400毫升")),
}
COLOURS: tuple[Pair, ...] = (
    ("black", "黑色"), ("white", "白色"), ("red", "红色"), ("blue", "蓝色"), ("green", "绿色"), ("grey", "灰色"),
    ("yellow", "黄色"), ("pink", "粉色"), ("brown", "棕色"), ("beige", "米色"), ("silver", "银色"), ("purple", "紫色"),
)  # fmt: skip
# What shoppers type for a colour and no title says.
COLOUR_SYNONYMS: tuple[Pair, ...] = (
    ("ebony", "乌黑"), ("snowy", "雪白"), ("scarlet", "大红"), ("azure", "天蓝"), ("emerald", "翠绿"),
    ("charcoal", "炭灰"),
    ("golden", "金黄"), ("rosy", "玫红"), ("chestnut", "咖啡"), ("sandy", "杏仁"), ("metallic", "金属"),
    ("violet", "紫罗兰"),
)  # fmt: skip

BRANDS: tuple[Pair, ...] = (
    ("Nordhem", "诺德汉"), ("Velaro", "维拉罗"), ("Kestrel", "凯思卓"), ("Lumio", "鹿米欧"), ("Asterby", "爱思比"),
    ("Brightwell", "博睿威"), ("Calder", "卡尔德"), ("Dovera", "朵薇拉"), ("Elmstead", "榆庄"), ("Fennick", "芬尼克"),
    ("Galloway", "加洛威"), ("Harrowby", "哈罗比"), ("Inverly", "英维丽"), ("Juniper", "杜松"), ("Korvas", "科瓦斯"),
    ("Lindqvist", "林奎斯"), ("Maplin", "枫林"), ("Novanta", "诺万塔"), ("Ostermann", "奥斯曼"), ("Pellucid", "佩璐"),
    ("Quillon", "奎隆"), ("Ravenna", "拉文纳"), ("Solvane", "索万"), ("Tamarind", "塔玛"), ("Umbra Vale", "安布谷"),
    ("Vestergaard", "维斯特"), ("Wexcombe", "韦克斯"), ("Xanthe", "珊西"), ("Yarrow", "雅若"), ("Zephyrin", "泽菲"),
    ("Aokai", "奥凯"), ("Baihe", "百禾"), ("Chenxi", "晨曦"), ("Dongyue", "东岳"), ("Fenghua", "枫华"),
    ("Guanlan", "观澜"), ("Haoyi", "好逸"), ("Jinshan", "锦山"), ("Kangle", "康乐"), ("Lanting", "兰亭"),
    ("Mingde", "明德"), ("Nanfeng", "南枫"), ("Pinju", "品居"), ("Qingmu", "青木"), ("Ruiyang", "瑞阳"),
    ("Shengyuan", "盛源"), ("Tianhe", "天禾"), ("Wanli", "万里"), ("Xinghai", "星海"), ("Yunshan", "云杉"),
)  # fmt: skip

# Parts of invented series names: rare words that nothing but the exact word finds.
SERIES_HEADS = (
    "Vel",
    "Mor",
    "Tri",
    "Zan",
    "Kel",
    "Ora",
    "Bri",
    "Quen",
    "Sol",
    "Fael",
    "Nym",
    "Ard",
    "Ix",
    "Dru",
    "Lor",
)
SERIES_MIDDLES = ("a", "e", "i", "o", "u", "ae", "io")
SERIES_TAILS = ("mora", "vex", "lith", "dane", "quor", "senne", "thal", "bryn", "zora", "plex", "wyn", "garde", "nox")

_HOME, _TECH, _WEAR = ("Home", "家居"), ("Electronics", "数码电器"), ("Fashion", "服饰")
_SPORT, _CARE, _FOOD = ("Sports and Outdoors", "运动户外"), ("Beauty and Health", "美妆健康"), ("Groceries", "食品")
_LIVING, _BEDROOM, _KITCHEN = ("Living Room", "客厅"), ("Bedroom", "卧室"), ("Kitchen", "厨房")
_AUDIO, _COMPUTER, _MACHINE = ("Audio", "影音"), ("Computing", "电脑"), ("Appliances", "小家电")
_CLOTHES, _FEET, _CARRIED = ("Clothing", "衣装"), ("Footwear", "足部"), ("Accessories", "配饰")
_FITNESS, _CAMP, _WHEELS = ("Fitness", "健身"), ("Camping", "露营"), ("Cycling", "骑行")
_SKIN, _HAIR = ("Skin", "护肤"), ("Hair", "护发")
_DRINK, _SNACK = ("Drinks", "饮品"), ("Pantry", "零食干货")

LEAVES: tuple[Leaf, ...] = (
    Leaf((_HOME, _LIVING, ("Sofas", "沙发")), (("sofa", "沙发"), ("corner sofa", "转角沙发")),
         (("reclining", "可调节"), ("modular", "模块化")), (("couch", "长椅"), ("settee", "榻椅")),
         (("comfy place for guests", "坐着看电视的地方"),), ("long evenings with the family", "全家围坐的夜晚"),
         "hide", "seats", 690, 1, .2, .0, .06, False, "Cushions"),
    Leaf((_HOME, _LIVING, ("Rugs", "地毯")), (("rug", "地毯"), ("runner rug", "走廊地毯")),
         (("woven", "编织"), ("washable", "可水洗")), (("carpet", "地垫"), ("floor mat", "脚垫")),
         (("something soft to walk on", "光脚踩着舒服"),), ("warm feet on cold tiles", "冬天的木地板"),
         "fabric", "", 120, 11, .3, .0, .06, False, "Sofas"),
    Leaf((_HOME, _LIVING, ("Floor Lamps", "落地灯")), (("floor lamp", "落地灯"), ("reading lamp", "阅读灯")),
         (("dimmable", "可调光"), ("arched", "弧形")), (("standing light", "立式照明"),),
         (("brighten a dark corner", "晚上看书不伤眼"),), ("quiet hours with a book", "安静的读书时光"),
         "wood", "", 95, 11, .4, .0, .05, True, "Bookcases"),
    Leaf((_HOME, _LIVING, ("Bookcases", "书架")), (("bookcase", "书架"), ("ladder bookcase", "梯形书架")),
         (("wall-mounted", "壁挂"), ("adjustable", "可调层")), (("shelving unit", "置物柜"), ("shelves", "陈列柜")),
         (("store my novels", "小说太多没处放"),), ("growing collections", "越来越多的收藏"),
         "wood", "", 140, 9, .2, .0, .04, False, "Floor Lamps"),
    Leaf((_HOME, _LIVING, ("Cushions", "抱枕")), (("cushion", "抱枕"), ("cushion cover", "抱枕套")),
         (("embroidered", "刺绣"), ("quilted", "绗缝")), (("throw pillow", "靠垫"),),
         (("support my lower back", "腰部支撑"),), ("tired backs", "久坐的午后"),
         "fabric", "", 22, 10, .2, .08, .05, False, "Sofas"),
    Leaf((_HOME, _BEDROOM, ("Mattresses", "床垫")), (("mattress", "床垫"), ("foam mattress", "海绵床垫")),
         (("orthopaedic", "护脊"), ("cooling", "凉感")), (("sleeping pad", "席梦思"),),
         (("wake up without pain", "睡醒不酸疼"),), ("deep and even rest", "一夜好眠"),
         "fabric", "bed", 380, 1, .2, .0, .07, False, "Duvets"),
    Leaf((_HOME, _BEDROOM, ("Duvets", "被子")), (("duvet", "被子"), ("winter duvet", "冬被")),
         (("lightweight", "轻薄"), ("hypoallergenic", "防螨")), (("comforter", "棉胎"), ("quilt", "铺盖")),
         (("stay snug at night", "夜里怕冷"),), ("chilly nights", "寒冷的夜晚"),
         "fabric", "bed", 75, 11, .6, .0, .05, False, "Mattresses"),
    Leaf((_HOME, _KITCHEN, ("Saucepans", "汤锅")), (("saucepan", "汤锅"), ("casserole", "炖锅")),
         (("non-stick", "不粘"), ("induction-ready", "电磁炉通用")), (("cooking pot", "煮食炊具"),
         ("cookware", "炊具")),
         (("simmer a stew", "煲一碗热汤"),), ("slow Sunday meals", "慢火煨煮"),
         "kitchen", "litres", 48, 11, .3, .0, .04, False, "Knives"),
    Leaf((_HOME, _KITCHEN, ("Knives", "刀具")), (("chef knife", "主厨刀"), ("bread knife", "面包刀")),
         (("forged", "锻造"), ("serrated", "锯齿")), (("sharp blade", "切菜利刃"),),
         (("chop vegetables quickly", "切肉省力"),), ("clean cuts", "利落的下厨"),
         "kitchen", "", 55, 12, .5, .0, .04, False, "Saucepans"),
    Leaf((_HOME, _KITCHEN, ("Water Bottles", "水杯")), (("water bottle", "水杯"), ("insulated bottle", "保温杯")),
         (("leakproof", "防漏"), ("vacuum", "真空")), (("drinking flask", "随行壶"), ("thermos", "暖壶")),
         (("keep drinks cold on a hike", "出门带热茶"),), ("days away from home", "外出的一天"),
         "kitchen", "litres", 24, 6, .4, .05, .03, False, "Backpacks"),
    Leaf((_TECH, _AUDIO, ("Headphones", "耳机")), (("headphones", "耳机"), ("over-ear headphones", "头戴式耳机")),
         (("wireless", "无线"), ("noise-cancelling", "降噪")), (("earphones", "听音耳塞"), ("headset", "耳麦")),
         (("music without disturbing others", "地铁上听歌"),), ("long flights", "通勤路上"),
         "shell", "", 130, 11, .6, .0, .08, True, "Phone Cases"),
    Leaf((_TECH, _AUDIO, ("Speakers", "音箱")), (("speaker", "音箱"), ("soundbar", "回音壁")),
         (("bluetooth", "蓝牙"), ("waterproof", "防水")), (("boombox", "扩音器"), ("loud hifi", "音响")),
         (("party music outdoors", "聚会放歌"),), ("a garden full of friends", "朋友聚会"),
         "shell", "", 150, 12, .6, .0, .07, True, "Headphones"),
    Leaf((_TECH, _AUDIO, ("Televisions", "电视")), (("television", "电视机"), ("smart television", "智能电视机")),
         (("oled", "自发光"), ("ultra hd", "超高清")), (("tv", "荧屏"), ("telly", "彩电")),
         (("watch films at home", "在家看大片"),), ("match nights and film nights", "电影之夜"),
         "", "inches", 620, 11, .7, .0, .05, True, "Speakers"),
    Leaf((_TECH, _COMPUTER, ("Laptops", "笔记本电脑")), (("laptop", "笔记本电脑"), ("gaming laptop", "游戏笔记本电脑")),
         (("ultralight", "超轻"), ("touchscreen", "触控屏")), (("portable pc", "手提计算机"), ("notebook", "手提本")),
         (("write essays on the train", "随身办公"),), ("work from anywhere", "随处开工"),
         "shell", "inches", 950, 9, .4, .0, .07, True, "Computer Mice"),
    Leaf((_TECH, _COMPUTER, ("Monitors", "显示器")), (("monitor", "显示器"), ("curved monitor", "曲面显示器")),
         (("4k", "4K"), ("144 hz", "144Hz")), (("pc screen", "荧光屏"), ("display", "荧幕")),
         (("second view for my desk", "双屏办公"),), ("sharp text and long hours", "长时间办公"),
         "", "inches", 260, 11, .4, .0, .05, True, "Laptops"),
    Leaf((_TECH, _COMPUTER, ("Computer Mice", "鼠标")), (("mouse", "鼠标"), ("vertical mouse", "竖式鼠标")),
         (("silent", "静音"), ("rechargeable", "可充电")), (("pointing device", "光标控制器"),
         ("trackball", "指点设备")),
         (("click without wrist strain", "手腕不累"),), ("precise hands", "精准操作"),
         "shell", "", 32, 9, .2, .02, .05, True, "Laptops"),
    Leaf((_TECH, _COMPUTER, ("Phone Cases", "手机壳")), (("phone case", "手机壳"), ("wallet case", "翻盖手机壳")),
         (("shockproof", "防摔"), ("transparent", "透明")), (("mobile cover", "电话保护套"), ("bumper", "护套")),
         (("protect my smartphone", "屏幕老是摔碎"),), ("clumsy pockets", "容易手滑的人"),
         "shell", "", 16, 12, .2, .1, .06, True, "Headphones"),
    Leaf((_TECH, _MACHINE, ("Vacuum Cleaners", "吸尘器")),
    (("vacuum cleaner", "吸尘器"), ("robot vacuum", "扫地机器人")),
         (("cordless", "手持"), ("bagless", "无尘袋")), (("hoover", "除尘机"), ("dust sucker", "清洁机")),
         (("get rid of crumbs", "地上有猫毛"),), ("homes with pets", "养宠家庭"),
         "", "", 210, 3, .3, .0, .06, True, "Air Purifiers"),
    Leaf((_TECH, _MACHINE, ("Coffee Machines", "咖啡机")),
    (("coffee machine", "咖啡机"), ("espresso machine", "意式咖啡机")),
         (("automatic", "全自动"), ("compact", "迷你")), (("barista brewer", "冲煮器"),),
         (("cappuccino at home", "早上来杯拿铁"),), ("early mornings", "清晨的第一杯"),
         "", "litres", 240, 12, .6, .0, .05, True, "Coffee"),
    Leaf((_TECH, _MACHINE, ("Air Purifiers", "空气净化器")), (("air purifier", "空气净化器"),),
         (("hepa", "HEPA滤网"), ("app-controlled", "手机控制")), (("smoke remover", "除霾机"), ("ioniser", "清新机")),
         (("pollen makes me sneeze", "室内雾霾"),), ("clear breathing", "畅快呼吸"),
         "", "", 180, 4, .4, .0, .05, True, "Vacuum Cleaners"),
    Leaf((_WEAR, _CLOTHES, ("Coats", "大衣")), (("coat", "大衣"), ("trench coat", "风衣")),
         (("hooded", "连帽"), ("belted", "系带")), (("overgarment", "外套"), ("parka", "棉袄")),
         (("keep warm in winter", "下雪天穿"),), ("windy streets", "寒风中的街头"),
         "fabric", "clothes", 140, 11, .9, .0, .16, False, "Scarves"),
    Leaf((_WEAR, _CLOTHES, ("Dresses", "连衣裙")), (("dress", "连衣裙"), ("maxi dress", "长款连衣裙")),
         (("floral", "碎花"), ("sleeveless", "无袖")), (("gown", "礼服"), ("frock", "裙装")),
         (("outfit for a wedding", "约会穿搭"),), ("summer evenings", "夏日傍晚"),
         "fabric", "clothes", 65, 6, .8, .0, .18, False, "Handbags"),
    Leaf((_WEAR, _CLOTHES, ("Sweaters", "毛衣")), (("sweater", "毛衣"), ("turtleneck sweater", "高领毛衣")),
         (("knitted", "针织"), ("oversized", "宽松")), (("jumper", "线衫"), ("pullover", "套头衫")),
         (("layer for autumn days", "秋天打底"),), ("crisp mornings", "微凉的清晨"),
         "fabric", "clothes", 58, 10, .9, .0, .13, False, "Coats"),
    Leaf((_WEAR, _CLOTHES, ("Trousers", "长裤")), (("trousers", "长裤"), ("chino trousers", "休闲长裤")),
         (("slim-fit", "修身"), ("stretch", "弹力")), (("pants", "裤子"), ("slacks", "西裤")),
         (("smart look for the office", "上班穿的"),), ("days at a desk", "办公室的一天"),
         "fabric", "clothes", 52, 9, .2, .03, .15, False, "Sweaters"),
    Leaf((_WEAR, _FEET, ("Trainers", "运动鞋")), (("trainers", "运动鞋"), ("running trainers", "跑步鞋")),
         (("cushioned", "缓震"), ("breathable", "透气")), (("sneakers", "波鞋"), ("jogging shoes", "球鞋")),
         (("start with a marathon", "准备跑马拉松"),), ("the first ten kilometres", "每一个十公里"),
         "hide", "shoes", 88, 4, .3, .04, .14, False, "Sports Watches"),
    Leaf((_WEAR, _FEET, ("Boots", "靴子")), (("boots", "靴子"), ("ankle boots", "短靴")),
         (("lined", "加绒"), ("lace-up", "系带")), (("galoshes", "雪地鞋"), ("wellingtons", "长筒鞋")),
         (("walk through snow and mud", "下雨路滑"),), ("wet pavements", "雨雪天气"),
         "hide", "shoes", 110, 10, .8, .0, .14, False, "Coats"),
    Leaf((_WEAR, _CARRIED, ("Handbags", "手提包")), (("handbag", "手提包"), ("shoulder handbag", "单肩手提包")),
         (("quilted", "菱格"), ("mini", "迷你")), (("purse", "女式坤袋"), ("tote", "挎袋")),
         (("carry my things to dinner", "晚宴装手机口红"),), ("evenings out", "晚宴与约会"),
         "hide", "", 95, 12, .4, .0, .1, False, "Dresses"),
    Leaf((_WEAR, _CARRIED, ("Scarves", "围巾")), (("scarf", "围巾"), ("checked scarf", "格子围巾")),
         (("fringed", "流苏"), ("soft", "柔软")), (("neck wrap", "披肩"), ("muffler", "围脖")),
         (("cold neck outdoors", "脖子怕风"),), ("frosty walks", "霜冻的早晨"),
         "fabric", "", 28, 11, .9, .0, .07, False, "Coats"),
    Leaf((_WEAR, _CARRIED, ("Sunglasses", "太阳镜")),
    (("sunglasses", "太阳镜"), ("aviator sunglasses", "飞行员太阳镜")),
         (("polarised", "偏光"), ("mirrored", "镀膜")), (("shades", "墨镜"), ("uv eyewear", "遮阳眼镜")),
         (("glare while driving", "开车刺眼"),), ("bright beaches", "海边假日"),
         "shell", "", 70, 6, .9, .0, .08, False, "Trainers"),
    Leaf((_SPORT, _FITNESS, ("Dumbbells", "哑铃")), (("dumbbell", "哑铃"), ("adjustable dumbbell", "可调哑铃")),
         (("hexagonal", "六角"), ("rubber-coated", "包胶")), (("hand weights", "举重器材"),),
         (("build bigger arms", "在家练肌肉"),), ("strength at home", "居家力量训练"),
         "shell", "", 60, 1, .7, .0, .04, False, "Yoga Mats"),
    Leaf((_SPORT, _FITNESS, ("Yoga Mats", "瑜伽垫")), (("yoga mat", "瑜伽垫"), ("travel yoga mat", "旅行瑜伽垫")),
         (("anti-slip", "防滑"), ("extra-thick", "加厚")), (("pilates pad", "体操毯"), ("exercise surface", "拉伸毯")),
         (("stretch on the floor", "拉伸放松"),), ("slow stretches", "舒展身心"),
         "shell", "", 32, 1, .6, .03, .04, False, "Dumbbells"),
    Leaf((_SPORT, _FITNESS, ("Sports Watches", "运动手表")), (("sports watch", "运动手表"), ("gps watch", "GPS手表")),
         (("heart-rate", "心率"), ("solar", "太阳能")), (("activity tracker", "手环"), ("pulse monitor", "计步器")),
         (("count my steps", "记录每天走多少路"),), ("measured progress", "看得见的进步"),
         "shell", "", 190, 12, .5, .0, .07, True, "Trainers"),
    Leaf((_SPORT, _CAMP, ("Tents", "帐篷")), (("tent", "帐篷"), ("dome tent", "圆顶帐篷")),
         (("pop-up", "速开"), ("windproof", "防风")), (("bivouac shelter", "野营住所"), ("canopy", "天幕")),
         (("sleep outside at a festival", "野外过夜"),), ("nights under stars", "星空下的夜晚"),
         "hide", "", 130, 6, .9, .0, .06, True, "Sleeping Bags"),
    Leaf((_SPORT, _CAMP, ("Sleeping Bags", "睡袋")), (("sleeping bag", "睡袋"), ("mummy sleeping bag", "木乃伊睡袋")),
         (("down-filled", "羽绒"), ("three-season", "三季")), (("bedroll", "铺卷"),),
         (("overnight trek equipment", "山里夜晚冷"),), ("mountain huts", "高山营地"),
         "fabric", "", 85, 6, .9, .0, .05, False, "Tents"),
    Leaf((_SPORT, _CAMP, ("Backpacks", "背包")), (("backpack", "背包"), ("hiking backpack", "登山背包")),
         (("rolltop", "卷口"), ("water-resistant", "防泼水")), (("rucksack", "双肩袋"), ("knapsack", "行囊")),
         (("luggage for a long walk", "徒步装行李"),), ("long trails", "漫长的步道"),
         "hide", "litres", 75, 8, .5, .0, .07, False, "Water Bottles"),
    Leaf((_SPORT, _WHEELS, ("Bicycles", "自行车")), (("bicycle", "自行车"), ("folding bicycle", "折叠自行车")),
         (("electric", "电动"), ("21-speed", "21速")), (("bike", "单车"), ("two-wheeler", "脚踏车")),
         (("pedal to work", "骑着去上班"),), ("quick city rides", "穿梭城市"),
         "shell", "", 520, 5, .8, .0, .05, True, "Helmets"),
    Leaf((_SPORT, _WHEELS, ("Helmets", "头盔")), (("helmet", "头盔"), ("cycling helmet", "骑行头盔")),
         (("ventilated", "通风"), ("reflective", "反光")), (("crash hat", "安全帽"), ("head protection", "护头装备")),
         (("safe riding for kids", "小孩骑车安全"),), ("every ride", "每一次出发"),
         "shell", "", 48, 5, .6, .0, .06, True, "Bicycles"),
    Leaf((_CARE, _SKIN, ("Moisturisers", "面霜")), (("moisturiser", "面霜"), ("day cream", "日霜")),
         (("fragrance-free", "无香"), ("hyaluronic", "玻尿酸")), (("hydrating lotion", "润肤乳"),
         ("face balm", "滋润膏")),
         (("dry flaky cheeks", "皮肤干燥起皮"),), ("thirsty skin", "干渴的肌肤"),
         "", "millilitres", 24, 1, .3, .55, .02, False, "Sunscreens"),
    Leaf((_CARE, _SKIN, ("Sunscreens", "防晒霜")), (("sunscreen", "防晒霜"), ("sunscreen spray", "防晒喷雾")),
         (("spf 50", "SPF50"), ("mineral", "物理")), (("sunblock", "隔离乳"), ("tanning protection", "遮阳乳液")),
         (("avoid getting burnt at the beach", "怕晒黑"),), ("hot holidays", "海边度假"),
         "", "millilitres", 17, 6, .95, .4, .02, False, "Sunglasses"),
    Leaf((_CARE, _HAIR, ("Shampoos", "洗发水")), (("shampoo", "洗发水"), ("anti-dandruff shampoo", "去屑洗发水")),
         (("sulphate-free", "无硅油"), ("argan", "坚果油")), (("cleansing suds", "洗头膏"),
         ("scalp wash", "头皮清洁露")),
         (("greasy roots", "头皮总是痒"),), ("everyday shine", "每天的光泽"),
         "", "millilitres", 11, 1, .1, .6, .01, False, "Hair Dryers"),
    Leaf((_CARE, _HAIR, ("Hair Dryers", "吹风机")), (("hair dryer", "吹风机"), ("ionic hair dryer", "负离子吹风机")),
         (("foldable", "折叠"), ("2000 w", "2000瓦")), (("blower", "风筒"), ("hot air styler", "热吹筒")),
         (("leave the house with no wet curls", "洗完头快干"),), ("hurried mornings", "匆忙的早晨"),
         "", "", 48, 12, .4, .0, .05, True, "Shampoos"),
    Leaf((_FOOD, _DRINK, ("Coffee", "咖啡")), (("coffee beans", "咖啡豆"), ("ground coffee", "咖啡粉")),
         (("dark-roast", "深烘"), ("fair-trade", "公平贸易")), (("arabica java", "提神饮料"),
         ("espresso refill", "意式浓缩")),
         (("stay awake at work", "上班犯困"),), ("slow breakfasts", "悠闲的早餐"),
         "", "grams", 12, 12, .2, .65, .01, False, "Coffee Machines"),
    Leaf((_FOOD, _DRINK, ("Tea", "茶叶")), (("green tea", "绿茶"), ("black tea", "红茶")),
         (("loose-leaf", "散装"), ("organic", "有机")), (("oolong infusion", "龙井"), ("camellia leaves", "茗品")),
         (("relaxing cup before bed", "饭后解腻"),), ("calm afternoons", "宁静的午后"),
         "", "grams", 14, 11, .3, .55, .01, False, "Biscuits"),
    Leaf((_FOOD, _SNACK, ("Biscuits", "饼干")), (("biscuits", "饼干"), ("oat biscuits", "燕麦饼干")),
         (("gluten-free", "无麸质"), ("butter", "黄油")), (("cookies", "曲奇"), ("shortbread", "酥饼")),
         (("sweet bite for guests", "下午嘴馋"),), ("unexpected guests", "下午茶时间"),
         "", "grams", 6, 12, .5, .5, .01, False, "Tea"),
    Leaf((_FOOD, _SNACK, ("Pet Food", "宠物粮")), (("dog food", "狗粮"), ("cat food", "猫粮")),
         (("grain-free", "无谷"), ("salmon", "三文鱼味")), (("kibble", "喂养饲料"), ("puppy dinner", "口粮")),
         (("my kitten is hungry", "毛孩子挑食"),), ("fussy eaters with four legs", "挑嘴的小家伙"),
         "", "grams", 26, 1, .05, .7, .01, False, "Vacuum Cleaners"),
)  # fmt: skip

# Sentences of descriptions; slots: brand, kind, colour, material, feature, use, size.
SENTENCES: tuple[tuple[str, ...], tuple[str, ...]] = (
    (
        "Made for {use}.",
        "The {feature} {kind} by {brand} in {colour} does what it says, day after day.",
        "{brand} has refined every detail so that nothing gets in your way.",
        "Solid {material} and careful finishing make it last for years.",
        "The {colour} finish suits modern and classic surroundings alike.",
        "Tested by an independent laboratory and delivered with a two-year guarantee.",
        "Easy to look after: a damp cloth is all it takes.",
        "Comes in recycled packaging without any plastic.",
        "Customers praise the fair price and the quiet, reliable quality.",
        "Size: {size}.",
        "A thoughtful gift that arrives ready to use.",
        "Designed in a small studio and produced under fair conditions.",
        "If it does not please you, send it back within thirty days at no cost.",
        "Spare parts stay available for at least seven years.",
    ),
    (
        "特别适合{use}。",
        "{brand}推出的{colour}{feature}{kind}，每一天都值得信赖。",
        "{brand}用心打磨每一个细节，使用起来毫不费力。",
        "选用优质{material}，做工精细，经久耐用。",
        "{colour}外观百搭，现代与古典风格都合适。",
        "经过独立实验室检测，享受两年质保。",
        "日常打理简单，湿布轻轻一擦即可。",
        "采用可回收包装，不含塑料。",
        "买家好评：价格公道，品质稳定。",
        "规格：{size}。",
        "精美礼盒，送礼自用两相宜。",
        "由独立设计工作室设计，坚持公平生产。",
        "不满意可在三十天内免费退货。",
        "七年内持续供应配件。",
    ),
)
# Sentences that may be said only where the item has a material, a size.
NEEDS_MATERIAL, NEEDS_SIZE = 3, 9

COUNTRIES: tuple[tuple[str, float, float], ...] = (
    # ISO code, share of shoppers, chance of shopping in Chinese.
    ("GB", .22, .02), ("DE", .16, .01), ("FR", .10, .01), ("US", .14, .05), ("NL", .06, .01),
    ("CN", .18, .98), ("SG", .07, .55), ("HK", .07, .85),
)  # fmt: skip
AGE_BANDS = ("18-24", "25-34", "35-44", "45-54", "55+")
